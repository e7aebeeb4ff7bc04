package main

import (
	"strconv"

	"github.com/alicebob/miniredis/v2"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

// startDemo starts a Redis and a Stigg API in this process, in which the
// customer acme has 50 credits.
func startDemo(config *stigg.Config, currencyID string) (stop func(), err error) {
	redis := miniredis.NewMiniRedis()
	if err := redis.Start(); err != nil {
		return nil, err
	}
	api, err := stiggtest.Start()
	if err != nil {
		redis.Close()
		return nil, err
	}
	stop = func() {
		api.Close()
		redis.Close()
	}
	api.SetEntitlements("acme", stiggtest.Credit(currencyID, 5000, 4950))

	config.APIKey, config.APIURL, config.EdgeURL = "any", api.URL(), api.URL()
	config.Redis.Host, config.Redis.Password = redis.Host(), ""
	config.Redis.Port, err = strconv.Atoi(redis.Port())
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

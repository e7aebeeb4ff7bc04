package stigg_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	stigg "github.com/stiggio/server-sdk-go"
	"github.com/stiggio/server-sdk-go/internal/redistest"
	"github.com/stiggio/server-sdk-go/stiggtest"
)

const (
	acmeValue  = prefix + ":c_acme"
	callsUsage = acmeValue + ":f_calls"
	tokenUsage = acmeValue + ":credit_tokens"
	nobodyMeta = prefix + ":c_nobody:metadata"
)

// damage is something that Redis should not hold.
type damage struct {
	name string
	key  string
	// put is what the key holds instead; a function of what it holds now.
	put func(now string) string
	// do is for what cannot be put.
	do func(rdb *redis.Client)
	// counted says that it shows as something that cannot be read, as opposed
	// to something that is not there.
	counted bool
}

func text(s string) func(string) string { return func(string) string { return s } }

func replaced(from, to string) func(string) string {
	return func(now string) string {
		if !strings.Contains(now, from) {
			panic("the value does not contain " + from)
		}
		return strings.Replace(now, from, to, 1)
	}
}

func half(now string) string { return now[:len(now)/2] }

// notJSON are texts that are no value of any key.
var notJSON = map[string]string{
	"nothing": "", "white space": " \n", "one brace": "{", "list": "[]", "text": `"text"`, "null": "null",
	"number": "5", "1e999": "1e999", "html": "<html></html>", "binary": "\x00\xff\xfe\x80", "two objects": "{}{}",
	"name without value": `{"a"}`, "comma at the end": `{"a":{},}`, "single quotes": "{'a':{}}",
	"deep": strings.Repeat(`{"a":`, 100_000),
}

// damages are applied to a Redis that holds acme and nobody.
func damages() []damage {
	var all []damage
	for _, key := range []string{acmeValue, callsUsage, tokenUsage, nobodyMeta} {
		for name, content := range notJSON {
			all = append(all, damage{name: name, key: key, put: text(content), counted: true})
		}
		all = append(all, damage{name: "first half", key: key, put: half, counted: true})
	}
	drop := func(keys ...string) func(*redis.Client) {
		return func(rdb *redis.Client) { rdb.Del(background(), keys...) }
	}
	list := func(key string) func(*redis.Client) {
		return func(rdb *redis.Client) {
			rdb.Del(background(), key)
			rdb.RPush(background(), key, "a", "b")
		}
	}
	for _, key := range []string{acmeValue, callsUsage, tokenUsage} {
		stamp := key + "#timestamp"
		for name, content := range map[string]string{
			"nothing": "", "text": "yesterday", "1e999": "1e999", "1e12": "1e12", "negative": "-1", "fraction": "1.5",
			"beyond int64": "99999999999999999999", "space": " 1", "json": `"1"`, "hex": "0x10",
		} {
			all = append(all, damage{name: "timestamp: " + name, key: stamp, put: text(content)})
		}
		all = append(all,
			damage{name: "timestamp without value", key: key, do: drop(key)},
			damage{name: "value without timestamp", key: key, do: drop(stamp)},
			damage{name: "neither", key: key, do: drop(key, stamp)},
			damage{name: "redis list", key: key, do: list(key)},
			damage{name: "redis list as timestamp", key: key, do: list(stamp)},
		)
	}
	shape := func(name, key, from, to string) {
		all = append(all, damage{name: name, key: key, put: replaced(from, to), counted: true})
	}
	// The entry of the metered feature, in which the test is interested.
	const entry = `"calls":{"calculatedEntitlement":{`
	shape("entry is a number", acmeValue, `"calls":{`, `"calls":7,"other":{`)
	shape("entry is a list", acmeValue, `"calls":{`, `"calls":[],"other":{`)
	shape("entry is null", acmeValue, `"calls":{`, `"calls":null,"other":{`)
	shape("type is a number", acmeValue, entry+`"type":"FEATURE"`, entry+`"type":5`)
	shape("feature is text", acmeValue, entry+`"type":"FEATURE","feature":{`, entry+`"type":"FEATURE","feature":"calls","other":{`)
	shape("feature is null", acmeValue, entry+`"type":"FEATURE","feature":{`, entry+`"type":"FEATURE","feature":null,"other":{`)
	shape("feature id is a number", acmeValue, `"id":"calls"`, `"id":5`)
	shape("feature id is empty", acmeValue, `"id":"calls"`, `"id":""`)
	shape("feature id is missing", acmeValue, `"id":"calls"`, `"other":"calls"`)
	shape("limit is text", acmeValue, `"usageLimit":100`, `"usageLimit":"100"`)
	shape("limit is 1e999", acmeValue, `"usageLimit":100`, `"usageLimit":1e999`)
	shape("limit is -1e999", acmeValue, `"usageLimit":100`, `"usageLimit":-1e999`)
	shape("limit has 400 digits", acmeValue, `"usageLimit":100`, `"usageLimit":1`+strings.Repeat("0", 400))
	shape("limit is true", acmeValue, `"usageLimit":100`, `"usageLimit":true`)
	shape("limit is NaN", acmeValue, `"usageLimit":100`, `"usageLimit":NaN`)
	shape("valid until 1e999", acmeValue, `"usageLimit":100`, `"validUntil":1e999,"usageLimit":100`)
	shape("valid until 1e300", acmeValue, `"usageLimit":100`, `"validUntil":1e300,"usageLimit":100`)
	shape("valid until is text", acmeValue, `"usageLimit":100`, `"validUntil":"tomorrow","usageLimit":100`)
	shape("soft limit is text", acmeValue, `"usageLimit":100`, `"hasSoftLimit":"no","usageLimit":100`)
	shape("unlimited is a number", acmeValue, `"usageLimit":100`, `"hasUnlimitedUsage":1,"usageLimit":100`)
	shape("values are text", acmeValue, `"usageLimit":100`, `"enumValues":"eu","usageLimit":100`)
	shape("values are numbers", acmeValue, `"usageLimit":100`, `"enumValues":[1],"usageLimit":100`)
	shape("reason is a list", acmeValue, `"usageLimit":100`, `"accessDeniedReason":[],"usageLimit":100`)
	shape("rate is text", acmeValue, `"usageLimit":100`, `"creditRate":"2","usageLimit":100`)
	shape("rate is negative", acmeValue, `"usageLimit":100`, `"creditRate":{"amount":-1,"currencyId":"tokens"},"usageLimit":100`)
	shape("snapshot is text", acmeValue, `"usageData":{"currentUsage":40`, `"usageData":{"currentUsage":"40"`)
	shape("snapshot is 1e999", acmeValue, `"usageData":{"currentUsage":40`, `"usageData":{"currentUsage":1e999`)
	for _, key := range []string{callsUsage, tokenUsage} {
		for name, usage := range map[string]string{
			"usage is text": `"40"`, "usage is 1e999": "1e999", "usage is an object": "{}", "usage is a list": "[1]",
			"usage is true": "true", "usage has leading zeros": "007",
		} {
			all = append(all, damage{name: name, key: key, put: text(`{"currentUsage":` + usage + `,"usagePeriodStart":null,"usagePeriodEnd":null}`), counted: true})
		}
		all = append(all, damage{name: "period end is 1e300", key: key, put: text(`{"currentUsage":1,"usagePeriodStart":null,"usagePeriodEnd":1e300}`), counted: true})
		all = append(all, damage{name: "period start is text", key: key, put: text(`{"currentUsage":1,"usagePeriodStart":"now","usagePeriodEnd":null}`), counted: true})
	}
	all = append(all, damage{name: "reason is a number", key: nobodyMeta, put: text(`{"accessDeniedReason":5}`), counted: true})
	return all
}

// apply damages what Redis holds.
func (d damage) apply(t *testing.T, rdb *redis.Client) {
	t.Helper()
	if d.do != nil {
		d.do(rdb)
		return
	}
	now, err := rdb.Get(background(), d.key).Result()
	require.NoError(t, err)
	require.NoError(t, rdb.Set(background(), d.key, d.put(now), redis.KeepTTL).Err())
}

// question asks for what the damaged key is about, and checks that the answer
// is right: never "not entitled" because Redis could not be read.
func (d damage) question(t *testing.T, client *stigg.Client) stigg.Source {
	t.Helper()
	switch {
	case d.key == nobodyMeta:
		a, err := client.GetBooleanEntitlement(background(), stigg.BooleanQuery{CustomerID: "nobody", FeatureID: "on"})
		require.NoError(t, err)
		require.False(t, a.HasAccess)
		require.Equal(t, stigg.CustomerIsArchived, a.AccessDeniedReason)
		return a.Source
	case strings.HasPrefix(d.key, tokenUsage): // as the wallet of a feature: 370 credits are left, a unit costs 2
		a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "video", RequestedUsage: 185})
		require.NoError(t, err)
		require.True(t, a.HasAccess, a.AccessDeniedReason)
		return a.Source
	default:
		a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{CustomerID: "acme", FeatureID: "calls", RequestedUsage: 60})
		require.NoError(t, err)
		require.True(t, a.HasAccess, a.AccessDeniedReason)
		require.Equal(t, 100.0, a.UsageLimit)
		require.Equal(t, 40.0, a.CurrentUsage)
		return a.Source
	}
}

// futureStamps makes every timestamp in Redis newer than anything that the API
// can send.
func futureStamps(t *testing.T, rdb *redis.Client) {
	t.Helper()
	future := strconv.FormatInt(time.Now().Add(24*time.Hour).UnixMilli(), 10)
	for _, key := range rdb.Keys(background(), "*#timestamp").Val() {
		require.NoError(t, rdb.Set(background(), key, future, 0).Err())
	}
}

// damagedAPI is the API behind a Redis that is damaged.
func damagedAPI(t *testing.T) *stiggtest.Server {
	t.Helper()
	api := acmeAPI(t)
	api.SetEntitlements("nobody")
	api.SetAccessDeniedReason("nobody", stigg.CustomerIsArchived)
	return api
}

// TestDamageInRedis: whatever Redis holds instead of what belongs there, the
// API is asked once, the answer is right, and Redis is right from then on, the
// second time also where its timestamps say that it holds something newer.
func TestDamageInRedis(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client()
	api := damagedAPI(t)
	for _, d := range damages() {
		t.Run(strings.TrimPrefix(d.key, prefix+":c_")+" "+d.name, func(t *testing.T) {
			server.FlushAll()
			fill(t, api, server, "acme", "nobody")
			lines := &logLines{}
			client := newClient(t, api, server, lines.to)
			require.Equal(t, stigg.SourceRedis, d.question(t, client), "before the damage")
			require.Zero(t, api.Count(isFetch))

			for round := range 2 {
				if round == 1 {
					futureStamps(t, rdb)
				}
				d.apply(t, rdb)
				d.heal(t, client, api)
				after := client.Stats()
				require.EqualValues(t, round+1, api.Count(isFetch))
				require.Greater(t, after.RedisMisses, uint64(round))
				require.Zero(t, after.WriteFailures)
				if d.counted {
					require.Greater(t, after.UnreadableValues, uint64(round))
					require.Len(t, lines.with("not of the known form"), 1, "once, not once per check")
				} else {
					require.Zero(t, after.UnreadableValues)
				}

				require.Equal(t, stigg.SourceRedis, d.question(t, client), "after the refetch")
				require.Equal(t, after.RedisHits+1, client.Stats().RedisHits)
				require.EqualValues(t, round+1, api.Count(isFetch), "no more requests")
			}
		})
	}
}

// heal asks until the API has been asked once more, which is at once unless the
// refetch before is still being finished, and until Redis has taken the answer.
func (d damage) heal(t *testing.T, client *stigg.Client, api *stiggtest.Server) {
	t.Helper()
	fetches := api.Count(isFetch)
	for giveUp := time.Now().Add(5 * time.Second); api.Count(isFetch) == fetches; {
		require.Equal(t, stigg.SourceEdge, d.question(t, client))
		require.True(t, time.Now().Before(giveUp), "no request")
	}
	eventually(t, func() bool { return client.Stats().Writes > uint64(fetches) }, "write-back")
}

// TestTruncatedAnywhere cuts the customer value off at many places.
func TestTruncatedAnywhere(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client()
	api := damagedAPI(t)
	fill(t, api, server, "acme")
	client := newClient(t, api, server)
	whole := rdb.Get(background(), acmeValue).Val()
	cuts := 0
	for n := 0; n < len(whole); n += 1 + len(whole)/50 {
		d := damage{key: acmeValue, put: func(now string) string { return now[:n] }}
		d.apply(t, rdb)
		d.heal(t, client, api)
		require.Equal(t, whole, rdb.Get(background(), acmeValue).Val(), "cut at %d", n)
		cuts++
	}
	require.Greater(t, cuts, 40)
	require.GreaterOrEqual(t, client.Stats().UnreadableValues, uint64(cuts))
}

// TestDamageInRedisWithoutAPI: where nobody can say what is right, a value that
// cannot be read is no answer; one whose usage alone cannot be read is answered
// from, as stale.
func TestDamageInRedisWithoutAPI(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client()
	api := damagedAPI(t)
	for _, d := range damages() {
		if d.key == nobodyMeta || strings.HasPrefix(d.key, tokenUsage) {
			continue
		}
		usable := strings.HasPrefix(d.key, callsUsage) || strings.HasPrefix(d.key, acmeValue+"#") || strings.Contains(d.name, "value without timestamp") ||
			d.name == "redis list as timestamp"
		t.Run(strings.TrimPrefix(d.key, prefix+":c_")+" "+d.name, func(t *testing.T) {
			server.FlushAll()
			fill(t, api, server, "acme")
			defer api.Fault(stiggtest.Status(http.StatusForbidden).On(isFetch))()
			client := newClient(t, api, server)
			d.apply(t, rdb)
			a, err := client.GetMeteredEntitlement(background(), stigg.MeteredQuery{
				CustomerID: "acme", FeatureID: "calls", RequestedUsage: 60, Fallback: &stigg.EntitlementFallback{HasAccess: true},
			})
			require.ErrorIs(t, err, stigg.ErrForbidden)
			require.True(t, a.HasAccess)
			require.Equal(t, usable, a.Stale)
			require.Equal(t, !usable, a.IsFallback)
			if usable {
				require.Equal(t, stigg.SourceRedis, a.Source)
				require.Equal(t, 40.0, a.CurrentUsage, "the snapshot")
			}
		})
	}
}

package main

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/message"
	"github.com/stiggio/server-sdk-go/internal/redistest"
)

const (
	chaosMessages   = 20_000
	chaosDuplicates = 2_000
	chaosCustomers  = 500
	chaosKills      = 5
	chaosStops      = 5
	chaosRestarts   = 2
)

// change is one message with its time.
type change struct {
	customer string
	at       time.Time
	body     string
}

// chaosChanges makes changes of many customers, each with a time of its own,
// and the order in which they are sent: duplicated and shuffled.
func chaosChanges() (changes []change, sent []string) {
	began := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for i := range chaosMessages {
		c := change{customer: fmt.Sprintf("customer-%d", i%chaosCustomers), at: began.Add(time.Duration(i) * time.Second)}
		if i/chaosCustomers%4 == 0 {
			c.body = listBody(c.customer, 6, float64(i), c.at)
		} else {
			c.body = usageBody(c.customer, fmt.Sprintf("feature-%d", rand.IntN(3)), float64(i), c.at)
		}
		changes = append(changes, c)
		sent = append(sent, c.body)
	}
	for range chaosDuplicates {
		sent = append(sent, changes[rand.IntN(len(changes))].body)
	}
	rand.Shuffle(len(sent), func(i, j int) { sent[i], sent[j] = sent[j], sent[i] })
	return changes, sent
}

// apply applies changes with the SDK's own store, one after the other in the
// order of their times: what Redis has to hold in the end.
func (w *world) apply(prefix string, changes []change) {
	w.t.Helper()
	store := cache.NewStore(cache.Options{Client: w.client, Prefix: prefix})
	sort.Slice(changes, func(i, j int) bool { return changes[i].at.Before(changes[j].at) })
	for _, c := range changes {
		m, err := message.Decode(c.body)
		require.NoError(w.t, err)
		switch m.Action {
		case message.Write:
			_, err = store.WriteState(w.t.Context(), m.Key, m.State, cache.WriteOptions{FetchBegan: m.Time})
		case message.UpdateUsage:
			_, err = store.UpdateUsage(w.t.Context(), m.Key, m.Ref, m.Usage, m.Time)
		}
		require.NoError(w.t, err)
	}
}

// content is what Redis holds under a prefix, without the prefix.
func (w *world) content(prefix string) map[string]string {
	w.t.Helper()
	keys, err := w.client.Keys(w.t.Context(), prefix+":c_*").Result()
	require.NoError(w.t, err)
	content := make(map[string]string, len(keys))
	for len(keys) > 0 {
		n := min(1000, len(keys))
		values, err := w.client.MGet(w.t.Context(), keys[:n]...).Result()
		require.NoError(w.t, err)
		for i, v := range values {
			content[strings.TrimPrefix(keys[i], prefix)] = fmt.Sprint(v)
		}
		keys = keys[n:]
	}
	return content
}

// Nothing is lost and nothing is applied out of order, whatever happens to the
// service and to Redis.
func TestChaos(t *testing.T) {
	for _, instances := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d instances", instances), func(t *testing.T) {
			w := newWorld(t, redistest.AOF())
			changes, sent := chaosChanges()
			w.apply("want", changes)
			want := w.content("want")
			// The customers are cached with something older than everything.
			first := map[string]change{}
			for _, c := range changes {
				first[c.customer] = change{c.customer, c.at.Add(-24 * time.Hour), listBody(c.customer, 6, -1, c.at.Add(-24*time.Hour))}
			}
			var initial []change
			for _, c := range first {
				initial = append(initial, c)
			}
			w.apply(prefix, initial)
			w.sqs.SendAll(w.queue, sent)

			services := make([]*process, instances)
			for i := range services {
				services[i] = start(t, w.environ())
			}
			began := time.Now()
			// Something happens each time that another part of the messages
			// was worked off.
			const events = chaosKills + chaosStops + chaosRestarts
			next := 0
			for event := range events {
				left := len(sent) * (events - event) / (events + 1)
				deadline := time.Now().Add(time.Minute)
				for {
					visible, inFlight := w.sqs.Depth(w.queue)
					if visible+inFlight <= left {
						break
					}
					require.True(t, time.Now().Before(deadline), "%d messages left", visible+inFlight)
					time.Sleep(20 * time.Millisecond)
				}
				victim := &services[next%instances]
				switch {
				case event%6 == 5:
					w.redis.Restart()
				case event%2 == 0:
					(*victim).kill()
					*victim = start(t, w.environ())
					next++
				default:
					(*victim).awaitStarted()
					require.Zero(t, (*victim).terminate())
					*victim = start(t, w.environ())
					next++
				}
			}
			w.sqs.WaitEmpty(w.queue, time.Minute)
			t.Logf("%d messages in %v", len(sent), time.Since(began).Round(time.Millisecond))
			for _, s := range services {
				s.awaitStarted()
				require.Zero(t, s.terminate())
			}
			got := w.content(prefix)
			require.Equal(t, len(want), len(got))
			for key, value := range want {
				require.Equal(t, value, got[key], key)
			}
		})
	}
}

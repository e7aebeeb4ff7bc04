package consumer

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
)

func messagesOf(sizes ...int) []queue.Message {
	messages := make([]queue.Message, len(sizes))
	for i, size := range sizes {
		messages[i].Body = strings.Repeat("x", size)
	}
	return messages
}

// While messages are large, few are asked for, and few ask; while they are
// small, or nothing comes, everyone asks for as many as he may.
func TestOrders(t *testing.T) {
	const most, everyone = 10, 10
	o := newOrders()
	askAll := func() (placed []order) {
		for range everyone {
			if one, ok := o.place(most); ok {
				placed = append(placed, one)
			}
		}
		return placed
	}
	first := askAll()
	require.Len(t, first, 4, "the worst is expected")
	require.Equal(t, 1, first[0].messages)
	for _, placed := range first {
		o.arrived(placed, nil)
	}
	for range 5 {
		placed, ok := o.place(most)
		require.True(t, ok)
		o.arrived(placed, nil)
	}
	all := askAll()
	require.Len(t, all, everyone, "nothing came, so nothing is expected")
	require.Equal(t, most, all[0].messages)
	for _, placed := range all[1:] {
		o.end(placed)
	}
	o.arrived(all[0], messagesOf(300<<10))
	require.Equal(t, 300<<10, o.held)
	few := askAll()
	require.Len(t, few, 4)
	require.Equal(t, 3, few[0].messages)
	for _, placed := range few {
		o.arrived(placed, messagesOf(make([]int, 10)...))
	}
	o.held = 0
	require.Len(t, askAll(), everyone, "they are small again")
}

// Only so much of large answers is read at once; one that is larger than all
// that is read alone.
func TestOrdersReading(t *testing.T) {
	o := newOrders()
	var a, b, c order
	require.True(t, o.read(&a, maxBytesReceived*3/4))
	require.False(t, o.read(&b, maxBytesReceived/2))
	o.end(a)
	require.True(t, o.read(&b, 3*maxBytesReceived))
	require.False(t, o.read(&c, 1))
	o.arrived(b, messagesOf(maxBytesReceived))
	require.Zero(t, o.reading)
	require.False(t, o.read(&c, 1), "what came is not dealt with")
	_, ok := o.place(10)
	require.False(t, ok)
	o.held = 0
	require.True(t, o.read(&c, 1))
}

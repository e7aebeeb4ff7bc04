package consumer

import (
	"time"

	"github.com/stiggio/server-sdk-go/cmd/persistent-cache-service/internal/queue"
)

const (
	// maxBytesReceived is how many bytes of messages may be in hand and asked
	// for, beside one receive whatever it brings. A process takes up several
	// times as much, because an answer is read as a whole.
	maxBytesReceived = 4 << 20
	// maxBytesPerOrder is how many bytes one receive is asked for.
	maxBytesPerOrder = maxBytesReceived / 4
	// roomPatience is how long an answer that is larger than was expected waits
	// for room: its messages are hidden already, and a receive has its time.
	roomPatience = 5 * time.Second
)

// orders decide how many messages a receive asks for. A queue takes a number of
// messages and not of bytes, so that the bytes are guessed from the messages
// that came last.
type orders struct {
	held     int // bytes of the messages in hand
	expected int // bytes that receives under way may bring
	reading  int // bytes of large answers that are read
	typical  int // bytes of a message: the largest of late
}

// order is what one receive asks for.
type order struct {
	messages int
	bytes    int // that are expected
	reading  int // that are read, if the answer is large
}

// place returns what to ask for, up to most messages. It reports false while
// there is no room for it.
func (o *orders) place(most int) (order, bool) {
	if o.typical > 0 {
		most = min(most, max(1, maxBytesPerOrder/o.typical))
	}
	bytes := most * o.typical
	if taken := o.held + o.expected; taken > 0 && taken+bytes > maxBytesReceived {
		return order{}, false
	}
	o.expected += bytes
	return order{messages: most, bytes: bytes}, true
}

// newOrders expects the worst until something came.
func newOrders() orders { return orders{typical: maxBytesPerOrder} }

// read makes room for an answer of so many bytes. It reports false while there
// is none: others that came are not dealt with. What is only expected does not
// count, else those that wait would wait for each other.
func (o *orders) read(placed *order, bytes int) bool {
	if taken := o.held + o.reading; taken > 0 && taken+bytes > maxBytesReceived {
		return false
	}
	o.reading += bytes
	placed.reading = bytes
	return true
}

// end takes an order back.
func (o *orders) end(placed order) {
	o.expected -= placed.bytes
	o.reading -= placed.reading
}

// arrived says what an order brought. What is large is remembered for a few
// messages, or until the queue is empty.
func (o *orders) arrived(placed order, messages []queue.Message) {
	o.end(placed)
	if len(messages) == 0 {
		o.typical /= 2
	}
	for i := range messages {
		size := len(messages[i].Body)
		o.held += size
		o.typical = max(size, o.typical-o.typical/8)
	}
}

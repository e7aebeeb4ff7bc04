package queue

import "context"

type roomKey struct{}

// WithRoom returns a context with which Receive asks for room before it reads an
// answer of more than a mebibyte, telling how many bytes that is. It reads the
// answer when room returns. It goes with the context because nothing else of a
// call reaches the protocol of the AWS client, which reads the answer.
func WithRoom(ctx context.Context, room func(ctx context.Context, bytes int)) context.Context {
	return context.WithValue(ctx, roomKey{}, room)
}

// askRoom asks for room for an answer of the given length; negative: not known.
func askRoom(ctx context.Context, length int64) {
	if length <= maxKept {
		return
	}
	if room, ok := ctx.Value(roomKey{}).(func(context.Context, int)); ok {
		room(ctx, int(min(length, maxAnswer)))
	}
}

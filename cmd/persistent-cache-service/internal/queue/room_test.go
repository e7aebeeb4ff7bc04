package queue

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A large answer is read when there is room for it; a small one at once.
func TestRoomForAnswers(t *testing.T) {
	size := 0
	q := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		answer, err := json.Marshal(map[string]any{"Messages": []any{map[string]string{"MessageId": "m", "ReceiptHandle": "r", "Body": strings.Repeat("x", size)}}})
		if err != nil {
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer)
	})
	asked := 0
	ctx := WithRoom(t.Context(), func(_ context.Context, bytes int) { asked += bytes })
	for _, c := range []struct {
		size  int
		asked bool
	}{{100 << 10, false}, {2 << 20, true}} {
		size, asked = c.size, 0
		messages, err := q.Receive(ctx, 1, 0, time.Minute)
		require.NoError(t, err)
		require.Len(t, messages[0].Body, size)
		require.Equal(t, c.asked, asked > size)
	}
	_, err := q.Receive(t.Context(), 1, 0, time.Minute)
	require.NoError(t, err, "nobody has to be asked")
}

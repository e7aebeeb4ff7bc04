package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	smithylogging "github.com/aws/smithy-go/logging"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// answering is an endpoint that answers everything in the same way.
func answering(t *testing.T, answer http.HandlerFunc) *SQS {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The AWS client breaks the connection under a long answer that comes
		// before it has noticed the end of its own request.
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(20 * time.Millisecond)
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_SQS": server.URL, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	q, err := NewSQS(t.Context(), Options{Region: "us-east-1", QueueURL: server.URL + "/1/q"})
	require.NoError(t, err)
	t.Cleanup(q.Close)
	return q
}

// receive receives with our way to read the answer, and with the client's own.
func receive(t *testing.T, q *SQS) (ours []types.Message, ourErr error, theirs []types.Message, theirErr error) {
	config, err := awsconfig.LoadDefaultConfig(t.Context(), awsconfig.WithRegion("us-east-1"), awsconfig.WithHTTPClient(q.http))
	require.NoError(t, err)
	read := func(client *sqs.Client) ([]types.Message, error) {
		out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &q.url, MaxNumberOfMessages: 10}, tryOnce)
		if err != nil {
			return nil, err
		}
		return out.Messages, nil
	}
	ours, ourErr = read(q.client)
	theirs, theirErr = read(sqs.NewFromConfig(config))
	return ours, ourErr, theirs, theirErr
}

// Whatever an endpoint answers, it reads as the AWS client reads it, and fails
// with the same error.
func TestAnswersReadAsTheClientReadsThem(t *testing.T) {
	message := fmt.Sprintf(`{"MessageId":"m","ReceiptHandle":"r","MD5OfBody":%q,"Body":"x\n\ud83d\ude42","Attributes":{"SentTimestamp":"17","ApproximateReceiveCount":"2"}}`, sum("x\n🙂"))
	for name, answer := range map[string]struct {
		status int
		header map[string]string
		body   string
	}{
		"one":                    {200, nil, `{"Messages":[` + message + `]}`},
		"ten":                    {200, nil, `{"Messages":[` + strings.Repeat(message+",", 9) + message + `]}`},
		"none":                   {200, nil, `{}`},
		"an empty list":          {200, nil, `{"Messages":[]}`},
		"null":                   {200, nil, `{"Messages":null}`},
		"null in the list":       {200, nil, `{"Messages":[null]}`},
		"nothing":                {200, nil, ``},
		"unknown fields":         {200, nil, `{"A":[{"b":1}],"Messages":[{"C":{"d":[null]},"Z":"x","Body":"y","E":-1e5}],"F":"g"}`},
		"no receipt handle":      {200, nil, `{"Messages":[{"MessageId":"m","Body":"y"}]}`},
		"no body":                {200, nil, `{"Messages":[{"MessageId":"m","ReceiptHandle":"r"}]}`},
		"half of a pair":         {200, nil, `{"Messages":[{"Body":"\ud83d \ude42"}]}`},
		"not UTF-8":              {200, nil, "{\"Messages\":[{\"Body\":\"a\xff\"}]}"},
		"truncated":              {200, nil, `{"Messages":[` + message[:60]},
		"truncated in an escape": {200, nil, `{"Messages":[{"Body":"\u00`},
		"of wrong types":         {200, nil, `{"Messages":[{"MessageId":7,"Body":{"a":1}}]}`},
		"a list of texts":        {200, nil, `{"Messages":["x"]}`},
		"an object for the list": {200, nil, `{"Messages":{"x":1}}`},
		"attributes of numbers":  {200, nil, `{"Messages":[{"Body":"x","Attributes":{"SentTimestamp":17}}]}`},
		"a control character":    {200, nil, "{\"Messages\":[{\"Body\":\"\n\"}]}"},
		"an unknown escape":      {200, nil, `{"Messages":[{"Body":"\x"}]}`},
		"HTML with status 200":   {200, map[string]string{"Content-Type": "text/html"}, `<html><body>Please log in</body></html>`},
		"a list":                 {200, nil, `[]`},
		"denied":                 {400, map[string]string{"X-Amzn-Query-Error": "AccessDenied;Sender"}, `{"__type":"com.amazon.coral.service#AccessDeniedException","message":"Access to the resource is denied."}`},
		"no such queue":          {400, map[string]string{"X-Amzn-Query-Error": "AWS.SimpleQueueService.NonExistentQueue;Sender"}, `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"The specified queue does not exist."}`},
		"throttled":              {400, nil, `{"__type":"com.amazonaws.sqs#RequestThrottled","message":"Too many."}`},
		"of the server":          {500, nil, `{"__type":"InternalFailure","message":"Sorry."}`},
		"HTML with status 503":   {503, nil, `<html>unavailable</html>`},
		"a redirect":             {300, nil, `{"Messages":[` + message + `]}`},
	} {
		t.Run(name, func(t *testing.T) {
			q := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Amzn-Requestid", "1")
				for name, value := range answer.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(answer.status)
				_, _ = io.WriteString(w, answer.body)
			})
			ours, ourErr, theirs, theirErr := receive(t, q)
			require.Equal(t, theirs, ours)
			if theirErr == nil {
				require.NoError(t, ourErr)
				return
			}
			require.EqualError(t, ourErr, theirErr.Error())
			var ourAPI, theirAPI smithy.APIError
			require.Equal(t, errors.As(theirErr, &theirAPI), errors.As(ourErr, &ourAPI))
			if theirAPI != nil {
				require.Equal(t, theirAPI.ErrorCode(), ourAPI.ErrorCode())
				require.IsType(t, theirAPI, ourAPI)
			}
		})
	}
}

// Ten messages of a mebibyte, all of them escapes, are read; the room that they
// took up is not kept.
func TestLargeAnswer(t *testing.T) {
	body := strings.Repeat(`"`, 1<<20)
	message := map[string]string{"MessageId": "m", "ReceiptHandle": "r", "Body": body, "MD5OfBody": sum(body)}
	answer, err := json.Marshal(map[string]any{"Messages": []any{message, message, message, message, message, message, message, message, message, message}})
	require.NoError(t, err)
	require.Greater(t, len(answer), 20<<20)
	q := answering(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) })
	messages, err := q.Receive(t.Context(), 10, 0, time.Minute)
	require.NoError(t, err)
	require.Len(t, messages, 10)
	for _, m := range messages {
		require.True(t, m.Body == body)
	}
	var p protocol
	p.keep(&buffers{answer: make([]byte, 0, maxKept+1)})
	p.keep(&buffers{text: make([]byte, 0, maxKept+1)})
	require.Nil(t, p.buffers.Get())
}

// An answer without an end is given up.
func TestEndlessAnswer(t *testing.T) {
	space := bytes.Repeat([]byte(" "), 1<<20)
	q := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(space); err != nil {
				return
			}
		}
	})
	_, err := q.Receive(t.Context(), 10, 0, time.Minute)
	require.ErrorIs(t, err, errAnswerTooLarge)
}

// A connection that breaks in the middle of an answer fails the receive, and
// what comes before is not taken for all.
func TestBrokenAnswer(t *testing.T) {
	q := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"Messages":[]}`)
	})
	_, err := q.Receive(t.Context(), 10, 0, time.Minute)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// A body that is not what was sent is not handed on, whoever read it, and the
// messages beside it are.
func TestDamagedBody(t *testing.T) {
	for name, more := range map[string]string{"read by us": `,"x":1`, "read by the client": `,"Body":null,"Body":"x","Attributes":{"a":null}`} {
		t.Run(name, func(t *testing.T) {
			checksum := sum("y")
			q := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, `{"Messages":[{"MessageId":"m","ReceiptHandle":"r","Body":"x"%s,"MD5OfBody":%q},{"MessageId":"n","ReceiptHandle":"s","Body":"z","MD5OfBody":%q}]}`, more, checksum, sum("z"))
			})
			messages, err := q.Receive(t.Context(), 10, 0, time.Minute)
			require.NoError(t, err)
			require.Equal(t, []Message{{ID: "m", Receipt: "r", Damaged: errChecksum}, {ID: "n", Receipt: "s", Body: "z"}}, messages)
			checksum = sum("x")
			messages, err = q.Receive(t.Context(), 10, 0, time.Minute)
			require.NoError(t, err)
			require.Equal(t, []Message{{ID: "m", Receipt: "r", Body: "x"}, {ID: "n", Receipt: "s", Body: "z"}}, messages)
		})
	}
}

// A message that could not be deleted, or that has no body at all, is damaged,
// too.
func TestIncompleteMessages(t *testing.T) {
	q := answering(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"Messages":[{"MessageId":"a","ReceiptHandle":"r","Body":"x"},{"MessageId":"b","Body":"x"},{"MessageId":"c","ReceiptHandle":"s"},null]}`)
	})
	messages, err := q.Receive(t.Context(), 10, 0, time.Minute)
	require.NoError(t, err)
	require.Equal(t, []Message{
		{ID: "a", Receipt: "r", Body: "x"}, {ID: "b", Damaged: errNoReceipt}, {ID: "c", Receipt: "s", Damaged: errChecksum}, {Damaged: errNoReceipt},
	}, messages)
}

// What the AWS client warns of is logged as everything is.
func TestClientLog(t *testing.T) {
	var out bytes.Buffer
	l := clientLog{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	l.Logf(smithylogging.Warn, "odd: %d", 7)
	l.Logf(smithylogging.Debug, "even: %d", 8)
	require.Contains(t, out.String(), `level=WARN msg="aws client" err="odd: 7"`)
	require.Contains(t, out.String(), `level=DEBUG msg="aws client" detail="even: 8"`)
	clientLog{}.Logf(smithylogging.Warn, "nobody listens")
}

// The answers to the other operations are read by the client.
func TestOtherOperations(t *testing.T) {
	q := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "GetQueueAttributes") {
			_, _ = io.WriteString(w, `{"Attributes":{"ApproximateNumberOfMessages":"3"}}`)
			return
		}
		_, _ = io.WriteString(w, `{"Successful":[],"Failed":[{"Id":"1","Code":"ReceiptHandleIsInvalid"}]}`)
	})
	depth, err := q.Depth(t.Context())
	require.NoError(t, err)
	require.Equal(t, Depth{Visible: 3}, depth)
	failed, err := q.Delete(t.Context(), []string{"a", "b"})
	require.ErrorContains(t, err, "ReceiptHandleIsInvalid")
	require.Equal(t, []string{"b"}, failed)
}

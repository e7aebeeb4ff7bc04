package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

const (
	// callTimeout bounds a call that does not wait for messages.
	callTimeout = 10 * time.Second
	// maxIdleConnections are enough for as many receives as can be under way,
	// and the deletes beside them.
	maxIdleConnections = 128
)

var (
	// errNoReceipt says that a message can be neither deleted nor hidden; and a
	// call that named it would fail for the others in it, too.
	errNoReceipt = errors.New("no receipt handle")
	// errChecksum says that a message's body is not what was sent.
	errChecksum = errors.New("body is missing or does not match its checksum")
)

// SQS is a queue of Amazon's Simple Queue Service, or of something that speaks
// its protocol. It is safe for concurrent use.
type SQS struct {
	client      *sqs.Client
	http        *awshttp.BuildableClient
	url         string
	credentials renewable
}

// Options say which queue is meant.
type Options struct {
	Region   string
	QueueURL string
	// Edge hands out credentials when AWS's own chain has none.
	Edge CredentialsSource
	// OnCredentials is told where the credentials come from, once that is known.
	OnCredentials func(source string)
	// Log is told what the AWS client warns of; nil: nobody is.
	Log *slog.Logger
}

// NewSQS makes a client of the queue. It sends nothing. The error is that of
// AWS's own configuration, such as a profile that does not exist.
func NewSQS(ctx context.Context, o Options) (*SQS, error) {
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns = maxIdleConnections
		t.MaxIdleConnsPerHost = maxIdleConnections
	})
	config, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(o.Region), awsconfig.WithHTTPClient(client), awsconfig.WithLogger(clientLog{o.Log}))
	if err != nil {
		return nil, fmt.Errorf("aws configuration: %w", err)
	}
	chain := &credentialsChain{aws: config.Credentials, edge: o.Edge, queueURL: o.QueueURL, found: o.OnCredentials}
	cached := aws.NewCredentialsCache(chain)
	config.Credentials = cached
	return &SQS{client: sqs.NewFromConfig(config, readOurselves), http: client, url: o.QueueURL, credentials: renewable{cache: cached}}, nil
}

// Close closes the idle connections.
func (q *SQS) Close() {
	if t := q.http.GetTransport(); t != nil {
		t.CloseIdleConnections()
	}
}

// Receive implements Queue. It tries once: who receives in a loop decides when
// to try again.
func (q *SQS) Receive(ctx context.Context, most int, wait, visibility time.Duration) ([]Message, error) {
	ctx, cancel := context.WithTimeout(ctx, wait+callTimeout)
	defer cancel()
	out, err := q.client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl:            &q.url,
		MaxNumberOfMessages: int32(most),
		WaitTimeSeconds:     int32(wait / time.Second),
		VisibilityTimeout:   int32(visibility / time.Second),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{
			types.MessageSystemAttributeNameSentTimestamp,
			types.MessageSystemAttributeNameApproximateReceiveCount,
		},
	}, tryOnce)
	if err != nil {
		return nil, q.failed("receive", err)
	}
	messages := make([]Message, len(out.Messages))
	for i := range out.Messages {
		m := &out.Messages[i]
		messages[i] = Message{
			ID: aws.ToString(m.MessageId), Receipt: aws.ToString(m.ReceiptHandle), Body: aws.ToString(m.Body),
			SentAt:       sentAt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)]),
			ReceiveCount: number(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)]),
			Damaged:      damage(m),
		}
		if messages[i].Damaged != nil {
			messages[i].Body = ""
		}
	}
	return messages, nil
}

// damage says what is wrong with a message as it arrived. A body that does not
// match its checksum was taken away when the answer was read.
func damage(m *types.Message) error {
	switch {
	case aws.ToString(m.ReceiptHandle) == "":
		return errNoReceipt
	case m.Body == nil:
		return errChecksum
	}
	return nil
}

// readOurselves has the answers to ReceiveMessage read by protocol, which also
// takes away the bodies that do not match their checksums.
func readOurselves(o *sqs.Options) {
	o.Protocol = &protocol{ClientProtocol: o.Protocol}
	o.DisableMessageChecksumValidation = true
}

func tryOnce(o *sqs.Options) { o.Retryer = aws.NopRetryer{} }

// Delete implements Queue.
func (q *SQS) Delete(ctx context.Context, receipts []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	entries := make([]types.DeleteMessageBatchRequestEntry, len(receipts))
	for i := range receipts {
		entries[i] = types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &receipts[i]}
	}
	out, err := q.client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &q.url, Entries: entries})
	if err != nil {
		return receipts, q.failed("delete", err)
	}
	return failures(receipts, out.Failed)
}

// SetVisibility implements Queue.
func (q *SQS) SetVisibility(ctx context.Context, receipts []string, timeout time.Duration) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	entries := make([]types.ChangeMessageVisibilityBatchRequestEntry, len(receipts))
	for i := range receipts {
		entries[i] = types.ChangeMessageVisibilityBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &receipts[i], VisibilityTimeout: int32(timeout / time.Second),
		}
	}
	out, err := q.client.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &q.url, Entries: entries})
	if err != nil {
		return receipts, q.failed("change visibility", err)
	}
	return failures(receipts, out.Failed)
}

// failed describes the error of a call, without what it may quote of the
// request. Credentials that are refused are renewed.
func (q *SQS) failed(call string, err error) error {
	code := errorCode(err)
	q.credentials.refused(code)
	if strings.Contains(code, "Signature") {
		err = &signatureError{err, code}
	}
	return fmt.Errorf("%s: %w", call, err)
}

// signatureError stands for an error whose own message quotes the request as it
// was signed, session token included.
type signatureError struct {
	error

	code string
}

func (e *signatureError) Error() string { return "api error " + e.code + ": signature refused" }

func (e *signatureError) Unwrap() error { return e.error }

// failures picks out the receipts whose part of a batch failed.
func failures(receipts []string, entries []types.BatchResultErrorEntry) ([]string, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	failed := make([]string, 0, len(entries))
	for _, e := range entries {
		if i := number(aws.ToString(e.Id)); i < len(receipts) {
			failed = append(failed, receipts[i])
		}
	}
	return failed, &batchError{failed: len(entries), all: len(receipts), code: aws.ToString(entries[0].Code)}
}

// batchError is the error of a call of which only some parts failed.
type batchError struct {
	failed, all int
	code        string // of the first that failed
}

func (e *batchError) Error() string {
	return fmt.Sprintf("%d of %d failed: %s", e.failed, e.all, e.code)
}

// Depth implements Queue. It needs the permission sqs:GetQueueAttributes.
func (q *SQS) Depth(ctx context.Context) (Depth, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := q.client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: &q.url,
		AttributeNames: []types.QueueAttributeName{
			types.QueueAttributeNameApproximateNumberOfMessages,
			types.QueueAttributeNameApproximateNumberOfMessagesNotVisible,
			types.QueueAttributeNameApproximateNumberOfMessagesDelayed,
		},
	}, tryOnce)
	if err != nil {
		return Depth{}, q.failed("queue attributes", err)
	}
	return Depth{
		Visible:  number(out.Attributes[string(types.QueueAttributeNameApproximateNumberOfMessages)]),
		InFlight: number(out.Attributes[string(types.QueueAttributeNameApproximateNumberOfMessagesNotVisible)]),
		Delayed:  number(out.Attributes[string(types.QueueAttributeNameApproximateNumberOfMessagesDelayed)]),
	}, nil
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func sentAt(s string) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil || ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

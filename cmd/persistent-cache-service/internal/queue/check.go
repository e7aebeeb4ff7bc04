package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/smithy-go"
)

// ErrDenied says that the credentials may not do something with the queue:
// change their policy, or the queue's.
var ErrDenied = errors.New("access denied")

// CheckConsume asks whether the credentials may do with a message what the
// service does with it: hide it and delete it. It names a message that does not
// exist. That messages may be received cannot be asked without taking some.
//
// The error is ErrDenied and says what is not allowed; any other means that the
// queue did not tell.
func (q *SQS) CheckConsume(ctx context.Context) error {
	nobody := []string{"none"}
	_, hide := q.SetVisibility(ctx, nobody, time.Second)
	_, drop := q.Delete(ctx, nobody)
	return errors.Join(allowed("sqs:ChangeMessageVisibility", hide), allowed("sqs:DeleteMessage", drop))
}

// allowed reads what is known of a permission from the error of a call that
// named a message that does not exist.
func allowed(permission string, err error) error {
	code := errorCode(err)
	switch {
	case err == nil, strings.Contains(code, "ReceiptHandleIsInvalid"):
		return nil
	case strings.Contains(code, "AccessDenied"):
		return fmt.Errorf("%w: %s", ErrDenied, permission)
	}
	return fmt.Errorf("%s: %w", permission, err)
}

// Denied reports whether the error of a call is that the credentials may not
// make it.
func Denied(err error) bool {
	return errors.Is(err, ErrDenied) || strings.Contains(errorCode(err), "AccessDenied")
}

// errorCode is the queue's code of an error; empty if it has none.
func errorCode(err error) string {
	var part *batchError
	var whole smithy.APIError
	switch {
	case errors.As(err, &part):
		return part.code
	case errors.As(err, &whole):
		return whole.ErrorCode()
	}
	return ""
}

package credits

import (
	"context"
	"iter"
)

// Page is one page of a list.
type Page[T any] struct {
	Items []T
	Next  string // the cursor of the next page; empty: this is the last one
}

// All walks over a list that comes in pages, fetching each page when it is
// reached. An error ends the walk; it comes with the zero value of T.
func All[T any](ctx context.Context, fetch func(ctx context.Context, cursor string) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		cursor := ""
		for {
			page, err := fetch(ctx, cursor)
			if err != nil {
				yield(zero, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.Next == "" || page.Next == cursor { // the same page again would never end
				return
			}
			cursor = page.Next
		}
	}
}

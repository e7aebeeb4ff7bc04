package stiggtest

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
)

// defaultPage is the page size when a client does not ask for one: small, so
// that a client that forgets about pages is found out.
const defaultPage = 10

// cursorPrefix keeps clients from reading a cursor as a number.
const cursorPrefix = "stiggtest:"

// paging asks for a page. Only forward paging is faked.
type paging struct {
	First  *int    `json:"first"`
	After  *string `json:"after"`
	Last   *int    `json:"last"`
	Before *string `json:"before"`
}

type pageInfo struct {
	StartCursor     *string `json:"startCursor"`
	EndCursor       *string `json:"endCursor"`
	HasNextPage     bool    `json:"hasNextPage"`
	HasPreviousPage bool    `json:"hasPreviousPage"`
}

// pageOf returns the page of a list that was asked for, and the index of its
// first element.
func pageOf[E any](list []E, p *paging) (page []E, first int, info pageInfo, err error) {
	size := defaultPage
	if p != nil {
		if p.Last != nil || p.Before != nil {
			return nil, 0, info, badInput("stiggtest pages forward only: use first and after")
		}
		if p.First != nil {
			size = *p.First
		}
		if size < 1 {
			return nil, 0, info, badInput("first must be positive")
		}
		if p.After != nil {
			if first, err = indexAfter(*p.After); err != nil {
				return nil, 0, info, err
			}
		}
	}
	first = min(first, len(list))
	end := first + min(size, len(list)-first)
	info.HasPreviousPage = first > 0
	info.HasNextPage = end < len(list)
	if end > first {
		info.StartCursor = optional(cursor(first))
		info.EndCursor = optional(cursor(end - 1))
	}
	return list[first:end], first, info, nil
}

// cursor names an element of a list.
func cursor(index int) string {
	return base64.StdEncoding.EncodeToString([]byte(cursorPrefix + strconv.Itoa(index)))
}

func indexAfter(cursor string) (int, error) {
	text, err := base64.StdEncoding.DecodeString(cursor)
	if err != nil {
		return 0, badInput("unknown cursor %q", cursor)
	}
	digits, ours := strings.CutPrefix(string(text), cursorPrefix)
	index, err := strconv.Atoi(digits)
	if err != nil || !ours || index < 0 || index == math.MaxInt {
		return 0, badInput("unknown cursor %q", cursor)
	}
	return index + 1, nil
}

package apistate

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"time"
)

// maxNumber bounds the numbers that are believed. It is far above any count
// and far below where a product of two stops being a finite number.
const maxNumber = 1e21

// decoder keeps the first error, so that reading many fields needs one check.
type decoder struct{ err error }

func (d *decoder) fail(path, problem string) {
	if d.err == nil {
		d.err = errors.New(path + ": " + problem)
	}
}

// object is a JSON object whose fields are read by name. A field that is
// absent reads like one that is null.
type object struct {
	d      *decoder
	path   string
	fields map[string]json.RawMessage
}

func (d *decoder) object(path string, raw json.RawMessage) object {
	o := object{d: d, path: path}
	if err := json.Unmarshal(raw, &o.fields); err != nil || o.fields == nil {
		d.fail(path, "not an object")
	}
	return o
}

func isNull(raw json.RawMessage) bool {
	return len(raw) == 0 || string(bytes.TrimSpace(raw)) == "null"
}

func (o object) has(name string) bool { return !isNull(o.fields[name]) }

func (o object) fail(name, problem string) { o.d.fail(o.path+"."+name, problem) }

// read decodes a field that is there into out, and reports whether it did.
func (o object) read(name string, out any, want string) bool {
	if !o.has(name) {
		return false
	}
	if err := json.Unmarshal(o.fields[name], out); err != nil {
		o.fail(name, "not "+want)
		return false
	}
	return true
}

func (o object) str(name string) string {
	var s string
	o.read(name, &s, "a string")
	return s
}

// id reads a string that must be there and must not be empty.
func (o object) id(name string) string {
	s := o.str(name)
	if s == "" {
		o.fail(name, "missing")
	}
	return s
}

func (o object) boolean(name string, absent bool) bool {
	b := absent
	o.read(name, &b, "a boolean")
	return b
}

func (o object) number(name string) *float64 {
	var n float64
	if !o.read(name, &n, "a number") {
		return nil
	}
	if math.Abs(n) > maxNumber {
		o.fail(name, "out of range")
		return nil
	}
	return &n
}

func (o object) requiredNumber(name string) float64 {
	n := o.number(name)
	if n == nil {
		o.fail(name, "missing")
		return 0
	}
	return *n
}

func (o object) time(name string) time.Time {
	t, err := ParseTime(o.fields[name])
	if err != nil {
		o.fail(name, err.Error())
	}
	return t
}

func (o object) list(name string) []json.RawMessage {
	var l []json.RawMessage
	o.read(name, &l, "a list")
	return l
}

func (o object) strings(name string) []string {
	var l []*string
	o.read(name, &l, "a list of strings")
	if len(l) == 0 {
		return nil
	}
	out := make([]string, 0, len(l))
	for _, s := range l {
		if s == nil {
			o.fail(name, "not a list of strings")
			return nil
		}
		out = append(out, *s)
	}
	return out
}

func (o object) child(name string) object {
	return o.d.object(o.path+"."+name, o.fields[name])
}

// rawObject keeps an object as it came, without insignificant space.
func (o object) rawObject(name string) json.RawMessage {
	var fields map[string]json.RawMessage
	if !o.read(name, &fields, "an object") {
		return nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, o.fields[name]); err != nil {
		o.fail(name, "not an object")
		return nil
	}
	return b.Bytes()
}

// metadata reads free-form data. Whatever is not an object is nothing that a
// map could hold, and the raw currency keeps it anyway.
func (o object) metadata(name string) map[string]any {
	if raw := bytes.TrimSpace(o.fields[name]); len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	var m map[string]any
	o.read(name, &m, "an object of finite numbers")
	return m
}

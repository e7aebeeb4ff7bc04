package message

import "time"

// object is a JSON object whose fields are read when they are asked for. They
// share the memory of what was read; what is read of them does not.
type object map[string]string

// parseObject reads an object; it reports false when raw is none.
func parseObject(raw string) (object, bool) {
	o := object{}
	r := reader{s: raw}
	for more := r.enter('{', '}'); more; more = r.next('}') {
		name := r.name()
		o[name] = r.raw()
	}
	return o, r.end()
}

func isNull(raw string) bool { return raw == "" || raw == "null" }

func (o object) has(name string) bool { return !isNull(o[name]) }

// child reads an object within the object; nil when it is absent or null.
func (o object) child(name string) (object, error) {
	if !o.has(name) {
		return nil, nil
	}
	c, ok := parseObject(o[name])
	if !ok {
		return nil, malformed(name, "not an object")
	}
	return c, nil
}

// text reads a string; empty when it is absent or null.
func (o object) text(name string) (string, error) {
	if !o.has(name) {
		return "", nil
	}
	s, err := readText(o[name])
	if err != nil {
		return "", malformed(name, "not a string")
	}
	return s, nil
}

// id reads an id; empty when it is absent or null.
func (o object) id(name string) (string, error) {
	s, err := o.text(name)
	if err != nil {
		return "", err
	}
	if o.has(name) && s == "" || len(s) > maxIDLength {
		return "", malformed(name, "not an id")
	}
	return s, nil
}

// requiredID reads an id that has to be there.
func (o object) requiredID(name string) (string, error) {
	s, err := o.id(name)
	if err == nil && s == "" {
		err = malformed(name, "missing")
	}
	return s, err
}

// time reads a time; zero when it is absent or null.
func (o object) time(name string) (time.Time, error) {
	t, err := readTime(o[name])
	if err != nil || !t.IsZero() && t.UnixMilli() <= 0 {
		return time.Time{}, malformed(name, "not a time")
	}
	return t, nil
}

// number reads a number that has to be there.
func (o object) number(name string) (float64, error) {
	n, err := readNumber(o[name])
	if err != nil {
		return 0, malformed(name, "not a number")
	}
	return n, nil
}

func malformed(where, problem string) *Error {
	return &Error{Malformed, where + ": " + problem}
}

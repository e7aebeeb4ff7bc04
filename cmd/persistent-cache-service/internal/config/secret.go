package config

import "log/slog"

// Secret is a text that does not show when it is printed, logged or encoded.
// Convert it to a string to use it.
type Secret string

// String tells only whether there is a secret.
func (s Secret) String() string {
	if s == "" {
		return "not set"
	}
	return "set, not shown"
}

// GoString is the same as String.
func (s Secret) GoString() string { return s.String() }

// LogValue is the same as String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is the same as String.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

package redistest

import (
	"context"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// entry is one key of a dump.
type entry struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	// TTLSeconds is the key's time to live; zero, negative or absent means
	// that it does not expire.
	TTLSeconds int64 `json:"ttlSeconds"`
}

// LoadDump writes the keys of a JSON file to the server and returns how many
// they are. The file holds a list of {"key", "value", "ttlSeconds"}, as in
// testdata: string values, and a time to live in seconds, where zero, a
// negative number or none means that the key does not expire.
func LoadDump(t testing.TB, client redis.Cmdable, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var entries []entry
	if err := json.Unmarshal(text, &entries); err != nil {
		t.Fatalf("read %s: %v", path, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, e := range entries {
		ttl := time.Duration(max(e.TTLSeconds, 0)) * time.Second
		if err := client.Set(ctx, e.Key, e.Value, ttl).Err(); err != nil {
			t.Fatalf("write %q of %s: %v", e.Key, path, err)
		}
	}
	return len(entries)
}

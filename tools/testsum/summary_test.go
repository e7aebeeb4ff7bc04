package main

import (
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	const (
		pass = `{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
`
		fail = `{"Action":"output","Package":"p","Test":"TestB","Output":"loud\n"}
{"Action":"fail","Package":"p","Test":"TestB","Elapsed":0.1}
`
		pkgPass = `{"Action":"pass","Package":"p","Elapsed":1.25}
`
		pkgFail = `{"Action":"output","Package":"p","Output":"FAIL\tp\t1.250s\n"}
{"Action":"fail","Package":"p","Elapsed":1.25}
`
	)
	tests := map[string]struct {
		in   string
		ok   bool // how go test ended
		want string
		well bool
	}{
		"all pass":   {in: pass + pkgPass, ok: true, well: true, want: "ok   p 1.2s\n1 passed, 0 failed\n"},
		"one fails":  {in: pass + fail + pkgFail, want: "loud\nFAIL\tp\t1.250s\n1 passed, 1 failed\n"},
		"fail alone": {in: pass + fail + pkgFail, ok: true, want: "loud\nFAIL\tp\t1.250s\n1 passed, 1 failed\n"},
		"skipped": {
			in: pass + `{"Action":"skip","Package":"p","Test":"TestC"}` + "\n" + pkgPass, ok: true, well: true,
			want: "ok   p 1.2s\n1 passed, 0 failed, 1 skipped\n",
		},
		"no test files": {
			in: `{"Action":"output","Package":"q","Output":"?   q [no test files]\n"}` + "\n" +
				`{"Action":"skip","Package":"q"}` + "\n" + pass + pkgPass, ok: true, well: true,
			want: "ok   p 1.2s\n1 passed, 0 failed\n",
		},
		"build fails": {
			in: `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: bad\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"output","Package":"p","Output":"FAIL p [build failed]\n"}
{"Action":"fail","Package":"p","Elapsed":0}
`,
			want: "p.go:1: bad\nFAIL p [build failed]\n0 passed, 1 failed\n",
		},
		"dies in a test": {
			in: pass + `{"Action":"output","Package":"p","Test":"TestD","Output":"panic: oh\n"}
` + pkgFail,
			want: "panic: oh\nFAIL\tp\t1.250s\n1 passed, 1 failed\n",
		},
		"go test fails without a word": {in: pass + pkgPass, want: "ok   p 1.2s\n1 passed, 1 failed\n"},
		"no test":                      {in: "", ok: true, want: "no test ran\n0 passed, 1 failed\n"},
		"not an event":                 {in: "noise\n" + pass + pkgPass, ok: true, well: true, want: "noise\nok   p 1.2s\n1 passed, 0 failed\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			s := newSummary(&b)
			if err := s.read(strings.NewReader(tt.in)); err != nil {
				t.Fatal(err)
			}
			if well := s.close(tt.ok); well != tt.well {
				t.Errorf("well: got %v, want %v", well, tt.well)
			}
			if b.String() != tt.want {
				t.Errorf("got  %q\nwant %q", b.String(), tt.want)
			}
		})
	}
}

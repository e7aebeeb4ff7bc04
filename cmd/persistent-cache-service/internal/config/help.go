package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
)

// WriteHelp lists every variable with its default and its meaning.
func WriteHelp(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	t := reflect.TypeFor[Config]()
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		name, options, _ := strings.Cut(tag.Get("env"), ",")
		byDefault := tag.Get("envDefault")
		if options == "required" {
			byDefault = "(required)"
		}
		if _, err := fmt.Fprintf(table, "  %s\t%s\t%s\n", name, byDefault, tag.Get("help")); err != nil {
			return err
		}
	}
	return table.Flush()
}

package main

import (
	"bytes"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const (
	chartWidth  = 11 * vg.Inch
	chartHeight = 4 * vg.Inch
	margin      = vg.Length(10)
	barWidth    = vg.Length(14)
	// aim is the share of the floor's throughput that the SDK is to reach.
	aim = 0.85
)

// writeCharts draws, for each number of reads in flight, the SDK's share of
// its floor's throughput.
func writeCharts(folder string, inFlight []int, results []result) error {
	for _, n := range inFlight {
		svg, err := drawRatios(n, results)
		if err != nil {
			return fmt.Errorf("draw the chart for %d in flight: %w", n, err)
		}
		if svg == nil {
			continue
		}
		name := filepath.Join(folder, fmt.Sprintf("benchmarks-%d.svg", n))
		if err := os.WriteFile(name, svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// drawRatios draws one group of bars for each group of ways, one bar for each
// size of customer; nil if the SDK was not measured reading from Redis.
func drawRatios(inFlight int, results []result) ([]byte, error) {
	var names []string
	var sizes []int
	ratios := make(map[int]plotter.Values) // by size, in the order of names
	for i := range results {
		r := &results[i]
		f := r.sdk()
		if f == nil || r.group.inMemory || r.inFlight != inFlight {
			continue
		}
		if !slices.Contains(sizes, r.size) {
			sizes = append(sizes, r.size)
		}
		if name := strings.ReplaceAll(r.group.name, ", ", ",\n"); !slices.Contains(names, name) {
			names = append(names, name)
		}
		ratios[r.size] = append(ratios[r.size], f.ratio)
	}
	if len(names) == 0 {
		return nil, nil
	}

	p := plot.New()
	p.Title.Text = fmt.Sprintf("Throughput of a check, as a share of go-redis reading the same keys; %d in flight", inFlight)
	p.Title.Padding = vg.Points(8)
	p.NominalX(names...)
	p.Y.Min, p.Y.Max = 0, 1.2
	for _, style := range []*draw.TextStyle{&p.Title.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		style.Font.Variant = "Sans"
	}
	p.Legend.Top = true
	p.Legend.ThumbnailWidth = vg.Points(12)
	for i, size := range sizes {
		bars, err := plotter.NewBarChart(ratios[size], barWidth)
		if err != nil {
			return nil, err
		}
		bars.Offset = (vg.Length(i) - vg.Length(len(sizes)-1)/2) * barWidth
		shade := uint8(0x30 + 0x50*i)
		bars.Color = color.RGBA{R: shade, G: shade + 0x20, B: 0xb0, A: 0xff}
		bars.LineStyle.Width = 0
		p.Add(bars)
		p.Legend.Add(fmt.Sprintf("%d entitlements", size), bars)
	}
	p.Add(level(1, nil), level(aim, []vg.Length{vg.Points(4), vg.Points(3)}))

	canvas := vgsvg.New(chartWidth, chartHeight)
	p.Draw(draw.Crop(draw.New(canvas), margin, -margin, margin, -margin))
	var svg bytes.Buffer
	if _, err := canvas.WriteTo(&svg); err != nil {
		return nil, err
	}
	return svg.Bytes(), nil
}

// level is a horizontal line across the chart.
func level(y float64, dashes []vg.Length) *plotter.Function {
	f := plotter.NewFunction(func(float64) float64 { return y })
	f.Dashes = dashes
	return f
}

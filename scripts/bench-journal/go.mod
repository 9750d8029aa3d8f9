module holdfast/bench-journal

go 1.26.0

replace holdfast => ../..

require (
	golang.org/x/sys v0.49.0
	holdfast v0.0.0
)

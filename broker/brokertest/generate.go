package brokertest

//go:generate go test -run TestTable . -update

module github.com/stiggio/server-sdk-go/tools/testsum

go 1.26.0

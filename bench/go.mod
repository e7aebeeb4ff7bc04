module github.com/stiggio/server-sdk-go/bench

go 1.26.0

replace github.com/stiggio/server-sdk-go => ../

require (
	github.com/hashicorp/golang-lru/v2 v2.0.7
	github.com/redis/go-redis/v9 v9.23.0
	github.com/redis/rueidis v1.0.79
	github.com/stiggio/server-sdk-go v0.0.0
	github.com/stretchr/testify v1.12.1
	gonum.org/v1/plot v0.17.0
)

// Package graphql is the client of Stigg's GraphQL API: the operations in
// operations.graphql as generated functions, and the [Client] that sends them.
//
// The generator lives in a module of its own, so that what it needs is not
// what the SDK needs.
package graphql

//go:generate env GOWORK=off go tool -modfile=../tools/genqlient/go.mod genqlient ../genqlient.yaml

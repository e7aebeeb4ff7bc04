package stigg

import "sync/atomic"

// Stats are counters since the client was made.
type Stats struct {
	RedisHits      uint64 // checks answered from Redis
	RedisMisses    uint64 // checks that Redis could not answer, and was asked
	RedisErrors    uint64 // checks for which Redis did not answer
	RedisBypassed  uint64 // checks that did not ask Redis: it is away, or the ids are ambiguous
	MemoryHits     uint64 // checks answered from this process
	LiveAnswers    uint64 // checks answered by the API, alone or together with others
	StaleAnswers   uint64 // checks answered with data known to be out of date
	Fallbacks      uint64 // checks answered with a fallback
	InvalidCalls   uint64 // calls refused with ErrInvalidArgument
	TypeMismatches uint64 // typed checks of a feature of another type

	UnreadableValues uint64 // values in Redis that are not of the known form
	AmbiguousChecks  uint64 // checks with ids that could name another customer's keys
	Fetches          uint64 // fetches of a customer or resource from the API
	FetchFailures    uint64 // such fetches that failed
	FleetWaits       uint64 // refetches that another process made, which this one waited for
	Writes           uint64 // write-backs to Redis
	WriteFailures    uint64 // write-backs that Redis did not take
	PairsWritten     uint64 // values written, each with its timestamp
	PairsSkipped     uint64 // values not written because Redis held something newer
}

// counters are the live form of Stats.
type counters struct {
	redisHits, redisMisses, redisErrors, redisBypassed atomic.Uint64
	memoryHits, liveAnswers, staleAnswers, fallbacks   atomic.Uint64
	invalidCalls, typeMismatches                       atomic.Uint64
	unreadableValues, ambiguousChecks                  atomic.Uint64
	fetches, fetchFailures, fleetWaits                 atomic.Uint64
	writes, writeFailures, pairsWritten, pairsSkipped  atomic.Uint64
}

// Stats returns the counters. They are read one after the other, not all at
// the same moment.
func (c *Client) Stats() Stats {
	n := &c.counters
	return Stats{
		RedisHits: n.redisHits.Load(), RedisMisses: n.redisMisses.Load(),
		RedisErrors: n.redisErrors.Load(), RedisBypassed: n.redisBypassed.Load(),
		MemoryHits: n.memoryHits.Load(), LiveAnswers: n.liveAnswers.Load(),
		StaleAnswers: n.staleAnswers.Load(), Fallbacks: n.fallbacks.Load(),
		InvalidCalls: n.invalidCalls.Load(), TypeMismatches: n.typeMismatches.Load(),
		UnreadableValues: n.unreadableValues.Load(), AmbiguousChecks: n.ambiguousChecks.Load(),
		Fetches: n.fetches.Load(), FetchFailures: n.fetchFailures.Load(), FleetWaits: n.fleetWaits.Load(),
		Writes: n.writes.Load(), WriteFailures: n.writeFailures.Load(),
		PairsWritten: n.pairsWritten.Load(), PairsSkipped: n.pairsSkipped.Load(),
	}
}

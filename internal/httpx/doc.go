// Package httpx sends requests to Stigg's APIs: with the API key, with bounded
// answers, with retries that fit into the caller's time, and with every
// failure told as an [apierr.Error].
//
// What goes wrong, and what becomes of it:
//
//	no answer: refused, reset, timed out   unavailable, tried again
//	answer cut short by the connection     unavailable, tried again
//	429                                    rate limited, tried again
//	5xx                                    unavailable, tried again
//	401, 403, 404, other 4xx               unauthenticated, forbidden, not found, rejected
//	3xx                                    malformed; never followed, for the key would go along
//	2xx that is not a JSON object          malformed
//	2xx with errors                        rejected, or what the error's code says
//	the caller's context ended             unavailable, with the context's error
package httpx

package message

import (
	"bytes"

	"github.com/stiggio/server-sdk-go/cache"
	"github.com/stiggio/server-sdk-go/entitlements"
	"github.com/stiggio/server-sdk-go/internal/apistate"
)

// realtime are the payloads of the GraphQL subscriptions, by the field that
// holds them.
var realtime = [...]struct {
	name   string
	decode func(object) (Message, error)
}{
	{"entitlementsUpdatedV2", entitlementsUpdated},
	{"usageUpdatedV2", usageUpdated},
	{"creditBalanceUpdated", creditBalanceUpdated},
	{"packagePublished", packagePublished},
	// Payloads of the subscriptions' first version describe entitlements in
	// another way. They name the customer, which is enough.
	{"entitlementsUpdated", customerChanged},
	{"usageUpdated", customerUsageChanged},
}

// decodeRealtime reads a payload as the GraphQL subscriptions have it, bare or
// under "data". A time beside the payload counts as the message's.
func decodeRealtime(fields object) (Message, bool, error) {
	root := fields
	if data, ok := parseObject(fields["data"]); ok {
		root = data
	}
	for _, known := range realtime {
		payload, ok := parseObject(root[known.name])
		if !ok {
			continue
		}
		m, err := known.decode(payload)
		if err != nil {
			return Message{}, false, err
		}
		m.Type = known.name
		if m.Time.IsZero() {
			if m.Time, err = fields.time("timestamp"); err != nil {
				return Message{}, false, err
			}
		}
		if m.EnvironmentID == "" {
			if m.EnvironmentID, err = fields.text("environmentId"); err != nil {
				return Message{}, false, err
			}
		}
		return m, true, nil
	}
	return Message{}, false, nil
}

// payloadKey reads who a payload is about.
func payloadKey(p object) (cache.Key, error) {
	customerID, err := p.requiredID("customerId")
	if err != nil {
		return cache.Key{}, err
	}
	resourceID, err := p.id("resourceId")
	return cache.Key{CustomerID: customerID, ResourceID: resourceID}, err
}

func entitlementsUpdated(p object) (Message, error) {
	key, err := payloadKey(p)
	if err != nil {
		return Message{}, err
	}
	m := Message{Action: Refetch, Key: key}
	list, ok := elements(p["entitlements"])
	if p.has("entitlements") && !ok {
		return Message{}, malformed("entitlements", "not a list")
	}
	if len(list) == 0 {
		// An empty list carries no time by which it could be put in order.
		return m, nil
	}
	state, err := apistate.Decode(stateObject(p))
	if err != nil {
		return Message{}, malformed("entitlements", err.Error())
	}
	if selfContained(state, len(list)) && ratesGiven(list, state) {
		m.Action, m.State = Write, state
		for i := range state.Records {
			if at := state.Records[i].Definition.UpdatedAt; !at.IsZero() {
				m.Time = at
				break
			}
		}
	}
	return m, nil
}

// stateObject makes the object that the APIs answer with of the payload.
func stateObject(p object) []byte {
	var b bytes.Buffer
	b.WriteString(`{"entitlementsV2":`)
	b.WriteString(p["entitlements"])
	if p.has("accessDeniedReason") {
		b.WriteString(`,"accessDeniedReason":`)
		b.WriteString(p["accessDeniedReason"])
	}
	b.WriteByte('}')
	return b.Bytes()
}

// selfContained reports whether a list can be written as it is: every element
// was understood, and every entitlement whose usage is counted came with it.
func selfContained(state entitlements.State, listed int) bool {
	if len(state.Records) == 0 || len(state.Records) != listed {
		return false
	}
	for i := range state.Records {
		r := &state.Records[i]
		if r.Definition.UsageTrackable() && !r.HasUsage || r.Definition.Kind() == entitlements.KindUnknown {
			return false
		}
	}
	return true
}

// ratesGiven reports whether it is known of every metered feature if it draws
// on a wallet. A sender that leaves the rate out altogether, rather than
// giving none, says nothing about it; that matters to customers with a wallet.
func ratesGiven(list []string, state entitlements.State) bool {
	wallets := false
	for i := range state.Records {
		wallets = wallets || state.Records[i].Definition.IsCredit
	}
	if !wallets {
		return true
	}
	for i, raw := range list {
		d := &state.Records[i].Definition
		if d.IsCredit || !d.UsageTrackable() {
			continue
		}
		fields, _ := parseObject(raw)
		if _, given := fields["creditRate"]; !given {
			return false
		}
	}
	return true
}

func usageUpdated(p object) (Message, error) {
	key, err := payloadKey(p)
	if err != nil {
		return Message{}, err
	}
	reference, err := p.child("entitlementReference")
	if err != nil {
		return Message{}, err
	}
	id, err := reference.requiredID("id")
	if err != nil {
		return Message{}, err
	}
	kind, err := reference.text("type")
	if err != nil {
		return Message{}, err
	}
	m := Message{Key: key, Action: UpdateUsage, Ref: cache.Ref{ID: id}}
	switch kind {
	case "FEATURE":
	case "CREDIT":
		m.Ref.IsCredit = true
	default:
		return Message{Key: key, Action: Refetch}, nil // of a kind that was invented later
	}
	usage, err := p.child("usage")
	if err != nil {
		return Message{}, err
	}
	if m.Usage.Current, err = usage.number("currentUsage"); err != nil {
		return Message{}, err
	}
	if m.Usage.PeriodStart, err = usage.time("usagePeriodStart"); err != nil {
		return Message{}, err
	}
	if m.Usage.PeriodEnd, err = usage.time("usagePeriodEnd"); err != nil {
		return Message{}, err
	}
	m.Usage.UpdatedAt, err = usage.time("usageUpdatedAt")
	m.Time = m.Usage.UpdatedAt
	return m, err
}

func creditBalanceUpdated(p object) (Message, error) {
	key, err := payloadKey(p)
	if err != nil {
		return Message{}, err
	}
	m := Message{Key: key, Action: UpdateBalance, Ref: cache.Ref{IsCredit: true}}
	if m.Ref.ID, err = p.id("currencyId"); err != nil {
		return Message{}, err
	}
	if m.Ref.ID == "" {
		currency, err := p.child("currency")
		if err != nil {
			return Message{}, err
		}
		if m.Ref.ID, err = currency.requiredID("currencyId"); err != nil {
			return Message{}, err
		}
	}
	if m.Balance.Granted, err = p.number("totalGranted"); err != nil {
		return Message{}, err
	}
	if m.Balance.Remaining, err = p.number("currentBalance"); err != nil {
		return Message{}, err
	}
	m.Time, err = p.time("timestamp")
	return m, err
}

func packagePublished(p object) (Message, error) {
	environmentID, err := p.text("environmentId")
	if err != nil {
		return Message{}, err
	}
	migration, err := p.text("migrationType")
	m := Message{Action: PurgeAll, EnvironmentID: environmentID}
	if migration == "NEW_CUSTOMERS" {
		m.Action = Ignore
	}
	return m, err
}

func customerChanged(p object) (Message, error) {
	key, err := payloadKey(p)
	return Message{Action: Refetch, Key: key}, err
}

func customerUsageChanged(p object) (Message, error) {
	usage, err := p.child("usage")
	if err != nil {
		return Message{}, err
	}
	return customerChanged(usage)
}

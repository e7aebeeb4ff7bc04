package stiggtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/stiggio/server-sdk-go/entitlements"
)

// customer is all that the fake knows about one customer.
type customer struct {
	deniedReason entitlements.AccessDeniedReason
	accounts     map[string]*account // by resource id; "" is the customer itself
	grants       []Grant
	ledger       []LedgerEvent
	usage        []UsageSeries
	recharge     []AutoRecharge
}

// account is what a customer or one of its resources may use.
type account struct {
	entitlements []*Entitlement
	raw          string // served in place of the entitlements when set
}

// clock gives each change a time of its own, in whole milliseconds.
type clock struct{ last time.Time }

// tick returns the present, or a millisecond after the latest tick if that is
// later.
func (c *clock) tick() time.Time {
	t := time.Now().UTC().Truncate(time.Millisecond)
	if !t.After(c.last) {
		t = c.last.Add(time.Millisecond)
	}
	c.last = t
	return t
}

// later returns t, or a millisecond after previous, which a test may have set
// in the future, if that is later.
func later(t, previous time.Time) time.Time {
	if t.After(previous) {
		return t
	}
	return previous.UTC().Truncate(time.Millisecond).Add(time.Millisecond)
}

// SetEntitlements makes these the customer's entitlements, and the customer
// known if it was not. Without any, it is a customer with an empty list.
func (s *Server) SetEntitlements(customerID string, es ...Entitlement) {
	s.SetResourceEntitlements(customerID, "", es...)
}

// SetResourceEntitlements makes these the entitlements of a customer's
// resource. An empty resource id means the customer itself, here and in the
// other methods that take one.
func (s *Server) SetResourceEntitlements(customerID, resourceID string, es ...Entitlement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.customer(customerID).accounts[resourceID]
	after := &account{}
	now := s.clock.tick() // one change, one time
	for _, e := range es {
		var previous Entitlement
		if p := before.find(e.isCredit, e.id); p != nil {
			previous = *p
		}
		if e.entitlementUpdatedAt.IsZero() {
			e.entitlementUpdatedAt = later(now, previous.entitlementUpdatedAt)
		}
		if e.used != nil && e.usageUpdatedAt.IsZero() {
			e.usageUpdatedAt = later(now, previous.usageUpdatedAt)
		}
		after.entitlements = append(after.entitlements, &e)
	}
	s.customer(customerID).accounts[resourceID] = after
}

// SetRaw makes the server answer a query for these entitlements with this
// whole body, on both APIs, until they are set again in another way. What the
// body says is not known to the other operations.
func (s *Server) SetRaw(customerID, resourceID, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.customer(customerID).accounts[resourceID] = &account{raw: body}
}

// SetAccessDeniedReason makes the API answer for the customer and all its
// resources with this reason and an empty list, as for CustomerIsArchived or
// NoActiveSubscription. An empty reason brings the entitlements back.
func (s *Server) SetAccessDeniedReason(customerID string, reason entitlements.AccessDeniedReason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.customer(customerID).deniedReason = reason
}

// RemoveCustomer forgets the customer, its resources, grants and ledger. The
// API then answers CustomerNotFound with an empty list.
func (s *Server) RemoveCustomer(customerID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.customers, customerID)
}

// SetUsage sets the usage of a customer's metered feature. It is an error if
// the customer does not have that feature, or it is not metered.
func (s *Server) SetUsage(customerID, featureID string, used float64) error {
	return s.SetResourceUsage(customerID, "", featureID, used)
}

// SetResourceUsage is [Server.SetUsage] for a customer's resource.
func (s *Server) SetResourceUsage(customerID, resourceID, featureID string, used float64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.account(customerID, resourceID).find(false, featureID)
	if e == nil || !e.tracksUsage {
		return fmt.Errorf("stiggtest: customer %q resource %q has no metered feature %q", customerID, resourceID, featureID)
	}
	e.use(used, s.clock.tick())
	return nil
}

// SetBalance sets what a customer's wallet was granted and has consumed in
// total. It is an error if the customer has no such wallet.
func (s *Server) SetBalance(customerID, currencyID string, granted, consumed float64) error {
	return s.SetResourceBalance(customerID, "", currencyID, granted, consumed)
}

// SetResourceBalance is [Server.SetBalance] for a customer's resource.
func (s *Server) SetResourceBalance(customerID, resourceID, currencyID string, granted, consumed float64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.account(customerID, resourceID).find(true, currencyID)
	if e == nil {
		return fmt.Errorf("stiggtest: customer %q resource %q has no credit %q", customerID, resourceID, currencyID)
	}
	now := s.clock.tick()
	e.limit = &granted
	e.entitlementUpdatedAt = later(now, e.entitlementUpdatedAt)
	e.use(consumed, now)
	return nil
}

// use sets the usage, which changed at the time now.
func (e *Entitlement) use(used float64, now time.Time) {
	e.used = &used
	e.usageUpdatedAt = later(now, e.usageUpdatedAt)
}

// customer returns the customer, made known if it was not. It needs the lock.
func (s *Server) customer(customerID string) *customer {
	c, ok := s.customers[customerID]
	if !ok {
		c = &customer{accounts: make(map[string]*account)}
		s.customers[customerID] = c
	}
	return c
}

// account returns nil if the customer or the resource is not known. It needs
// the lock.
func (s *Server) account(customerID, resourceID string) *account {
	c, ok := s.customers[customerID]
	if !ok {
		return nil
	}
	return c.accounts[resourceID]
}

// find returns the entitlement to a feature or a credit, or nil. A nil account
// has none.
func (a *account) find(isCredit bool, id string) *Entitlement {
	if a == nil {
		return nil
	}
	for _, e := range a.entitlements {
		if e.raw == "" && e.isCredit == isCredit && e.id == id {
			return e
		}
	}
	return nil
}

// wallet returns the wallet that pays for the feature, or nil.
func (a *account) wallet(e *Entitlement) *Entitlement {
	if e.rate == nil {
		return nil
	}
	return a.find(true, e.rate.CurrencyID)
}

// stateBody returns the whole answer to a query for the entitlements of a
// customer or a resource: the same on both APIs.
func (s *Server) stateBody(customerID, resourceID string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, known := s.customers[customerID]
	if !known {
		return stateBody(nil, entitlements.CustomerNotFound)
	}
	a, entitled := c.accounts[resourceID]
	switch {
	case entitled && a.raw != "":
		return []byte(a.raw)
	case c.deniedReason != "":
		return stateBody(nil, c.deniedReason)
	case !entitled:
		return stateBody(nil, entitlements.NoActiveSubscription)
	}
	list := make([][]byte, len(a.entitlements))
	for i, e := range a.entitlements {
		entry, err := e.wire(a.wallet(e))
		if err != nil { // a currency's metadata that JSON cannot express
			return errorBody("stiggtest", err.Error(), "")
		}
		list[i] = entry
	}
	return stateBody(list, "")
}

// stateBody joins the entries as text, because a raw one need not be JSON.
func stateBody(list [][]byte, reason entitlements.AccessDeniedReason) []byte {
	var b bytes.Buffer
	b.WriteString(`{"data":{"entitlementsState":{"entitlementsV2":[`)
	b.Write(bytes.Join(list, []byte(",")))
	b.WriteString(`],"accessDeniedReason":`)
	if reason == "" {
		b.WriteString("null")
	} else {
		text, _ := json.Marshal(reason) // a string always marshals
		b.Write(text)
	}
	b.WriteString(`}}}`)
	return b.Bytes()
}

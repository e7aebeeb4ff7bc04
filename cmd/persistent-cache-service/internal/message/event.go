package message

import (
	"strings"

	"github.com/stiggio/server-sdk-go/cache"
)

// otherType is the label of the types that are not in eventTypes.
const otherType = "other"

const (
	typeEntitlementsUpdated = "entitlements.updated"
	typePackagePublished    = "package.published"
	typeCustomerArchived    = "customer.archived"
	typeCustomerDeleted     = "customer.deleted"
)

// eventTypes are the types of events that get a label of their own. A type
// that is not here is handled all the same.
var eventTypes = map[string]bool{
	typeEntitlementsUpdated: true, typePackagePublished: true, typeCustomerArchived: true, typeCustomerDeleted: true,
	"customer.created": true, "customer.updated": true, "customer.unarchived": true,
	"subscription.created": true, "subscription.updated": true, "subscription.canceled": true,
	"subscription.expired": true, "subscription.migrated": true, "subscription.trial.started": true,
	"subscription.trial.ended": true, "subscription.trial.expired": true, "subscription.trial.converted": true,
	"promotionalEntitlement.granted": true, "promotionalEntitlement.updated": true,
	"promotionalEntitlement.revoked": true, "promotionalEntitlement.expired": true,
	"entitlement.granted": true, "entitlement.denied": true, "measurement.reported": true,
}

// decodeEvent reads an event of the durable queue, which has the form of
// Stigg's webhooks: it has a type, and mostly names a customer.
func decodeEvent(fields object) (Message, bool, error) {
	if !fields.has("type") {
		return Message{}, false, nil
	}
	kind, err := fields.text("type")
	if err != nil {
		return Message{}, false, err
	}
	if kind == "" {
		return Message{}, false, malformed("type", "empty")
	}
	m := Message{Type: kind}
	known := eventTypes[kind]
	if !known {
		m.Type = otherType
	}
	// What an unknown type means by these fields is its own affair: what is
	// not as agreed counts as absent.
	if m.EnvironmentID, err = fields.text("environmentId"); err != nil && known {
		return Message{}, false, err
	}
	if m.Time, err = fields.time("timestamp"); err != nil && known {
		return Message{}, false, err
	}
	if m.Key, err = eventKey(fields); err != nil && known {
		return Message{}, false, err
	}

	switch kind {
	case typePackagePublished:
		return m.packageEvent(fields)
	case typeEntitlementsUpdated, typeCustomerArchived, typeCustomerDeleted:
		if m.Key.CustomerID == "" {
			return Message{}, false, malformed("customer", "missing")
		}
	}
	switch {
	case kind == typeEntitlementsUpdated:
		return m.listEvent(fields)
	case kind == typeCustomerArchived, kind == typeCustomerDeleted:
		m.Key.ResourceID = ""
		m.Action = PurgeCustomer
	case m.Key.CustomerID != "":
		m.Action = Refetch
	}
	return m, true, nil
}

// eventKey reads which customer, and which of its resources, an event names.
func eventKey(fields object) (cache.Key, error) {
	var key cache.Key
	customer, err := fields.child("customer")
	if err != nil {
		return key, err
	}
	if customer == nil {
		key.CustomerID, err = fields.id("customerId")
	} else {
		key.CustomerID, err = customer.id("id")
	}
	if err != nil || key.CustomerID == "" {
		return key, err
	}
	resource, err := fields.child("resource")
	if err != nil {
		return key, err
	}
	if resource == nil {
		key.ResourceID, err = fields.id("resourceId")
	} else {
		key.ResourceID, err = resource.id("id")
	}
	return key, err
}

// packageEvent decides what a published package means: nothing for customers
// that have the package already, unless they are migrated to it.
func (m Message) packageEvent(fields object) (Message, bool, error) {
	m.Key, m.Action = cache.Key{}, PurgeAll
	for _, name := range []string{"package", "plan", "addon"} {
		inner, err := fields.child(name)
		if err != nil {
			return Message{}, false, err
		}
		if inner.has("migrationType") && !fields.has("migrationType") {
			fields = inner
		}
	}
	migration, err := fields.text("migrationType")
	if strings.EqualFold(migration, "NEW_CUSTOMERS") {
		m.Action = Ignore
	}
	return m, true, err
}

// Package webhook holds the nouns of the line and their record codecs: the
// [Event] that a platform produced, the [Endpoint] that subscribed to it, the
// [Delivery] that takes the one to the other, and the [Settlement] that
// records how each step of a delivery ended.
//
// It imports only the standard library, so that every other package can share
// it without learning about Kafka or HTTP.
package webhook

// Package match is the index that finds the endpoints subscribed to an event
// type: per tenant a segment trie (a flat list while it is short), in memory, safe for any number of readers
// beside a live writer. It knows nothing of Kafka or of records.
//
// A type is a list of segments, each but the first behind a separator that is
// either "." or "/". A pattern is the same, except that a segment may be "*"
// or "{name}". Both stand for exactly one segment, whatever it holds; "*" as
// the last segment stands for that one and any number of further ones.
// Separators are compared as they are: "a.b" doesn't match "a/b". An endpoint
// without patterns is subscribed to everything.
package match

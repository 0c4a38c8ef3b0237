// Package config is the configuration of a Posthorn process: one YAML file,
// every key of which the environment can override, and one set of defaults.
//
// Reading is strict. Unknown and repeated keys, values of the wrong form and
// settings that contradict each other are all refused, and all of them at once:
// [Load] returns an [*Error] that lists every [Problem] with the line or the
// environment variable that it comes from, the path of the key, what is wrong
// and what would be right.
//
// # Environment
//
// A key's variable is POSTHORN_ and its path in upper case, with _ for each
// dot: kafka.tls.server_name is POSTHORN_KAFKA_TLS_SERVER_NAME. Lists of plain
// values are comma separated; the list of sources is given as YAML text, in
// POSTHORN_SOURCES. An empty variable counts as unset. Variables that begin
// with POSTHORN_ and name no key are warned of and not refused: Kubernetes sets
// such variables for every service in a pod's namespace.
//
// The package is plain data: it imports neither Kafka nor HTTP.
package config

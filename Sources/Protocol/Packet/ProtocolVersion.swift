/// The versions of MQTT this codec speaks; the raw value is the protocol level a CONNECT carries [MQTT-3.1.2-2].
public enum ProtocolVersion: UInt8, Sendable, Hashable, CaseIterable {
    /// MQTT 3.1, protocol name `MQIsdp`.
    case v31 = 3
    /// MQTT 3.1.1.
    case v311 = 4
    /// MQTT 5.0.
    case v5 = 5

    /// The protocol name a CONNECT of this version carries [MQTT-3.1.2-1].
    package var name: StaticString {
        self == .v31 ? "MQIsdp" : "MQTT"
    }
}

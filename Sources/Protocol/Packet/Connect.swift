/// The first packet of a client: who it is and what it wants (MQTT 5, section 3.1).
public struct Connect: Hashable, Sendable {
    public var version: ProtocolVersion
    /// Clean Start; Clean Session in MQTT 3.
    public var cleanStart: Bool
    /// In seconds; 0 turns the mechanism off.
    public var keepAlive: UInt16
    /// Empty if the server is to choose. Compare the `utf8` of identifiers, not the strings: Swift takes canonically
    /// equivalent text for equal, MQTT does not.
    public var clientIdentifier: String
    public var will: Will?
    public var userName: String?
    public var password: [UInt8]?
    public var properties: Properties

    public init(
        version: ProtocolVersion,
        cleanStart: Bool = true,
        keepAlive: UInt16 = 0,
        clientIdentifier: String,
        will: Will? = nil,
        userName: String? = nil,
        password: [UInt8]? = nil,
        properties: Properties = Properties()
    ) {
        self.version = version
        self.cleanStart = cleanStart
        self.keepAlive = keepAlive
        self.clientIdentifier = clientIdentifier
        self.will = will
        self.userName = userName
        self.password = password
        self.properties = properties
    }
}

/// The message a server publishes when a client is gone without a word (MQTT 5, section 3.1.2.5).
public struct Will: Hashable, Sendable {
    public var topic: String
    public var payload: [UInt8]
    public var qos: QoS
    public var retain: Bool
    /// With the will delay interval.
    public var properties: Properties

    public init(
        topic: String,
        payload: [UInt8],
        qos: QoS = .atMostOnce,
        retain: Bool = false,
        properties: Properties = Properties()
    ) {
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
    }
}

/// The Connect Flags (MQTT 5, section 3.1.2.3).
private struct ConnectFlags {
    var rawValue: UInt8

    var reserved: Bool { self.rawValue & 0x01 != 0 }
    var cleanStart: Bool { self.rawValue & 0x02 != 0 }
    var will: Bool { self.rawValue & 0x04 != 0 }
    var willQoSBits: UInt8 { (self.rawValue >> 3) & 0b11 }
    var willRetain: Bool { self.rawValue & 0x20 != 0 }
    var password: Bool { self.rawValue & 0x40 != 0 }
    var userName: Bool { self.rawValue & 0x80 != 0 }

    func check(_ version: ProtocolVersion, at offset: Int) throws(ProtocolError) {
        if self.reserved && version != .v31 {
            throw .malformed("MQTT-3.1.2-3", at: offset, "reserved connect flag set")
        }
        if self.willQoSBits == 3 {
            throw .malformed("MQTT-3.1.2-12", at: offset, "will QoS 3")
        }
        // MQTT 3.1 ignores the will's QoS and retain flag when there is no will.
        if !self.will && version != .v31 {
            if self.willQoSBits != 0 {
                throw .malformed("MQTT-3.1.2-11", at: offset, "will QoS without a will")
            }
            if self.willRetain {
                throw .malformed("MQTT-3.1.2-13", at: offset, "will retain without a will")
            }
        }
        if self.password && !self.userName && version != .v5 {
            throw .malformed("MQTT3-3.1.2-22", at: offset, "password without a user name")
        }
    }
}

// MARK: Reading

extension Connect {
    init(_ frame: Frame, in bytes: RawSpan) throws(ProtocolError) {
        var cursor = Cursor(frame)
        let version = try Self.readVersion(&cursor, bytes)
        try frame.checkFlags(.connect, version)
        let flagsOffset = cursor.offset
        let flags = ConnectFlags(rawValue: try cursor.readByte(bytes))
        try flags.check(version, at: flagsOffset)
        self.init(version: version, cleanStart: flags.cleanStart, clientIdentifier: "")
        self.keepAlive = try cursor.readUInt16(bytes)
        if version == .v5 {
            let start = cursor.offset
            self.properties = try Properties(&cursor, in: bytes, allowed: .connect)
            if self.properties.authenticationData != nil && self.properties.authenticationMethod == nil {
                throw .violation("MQTT 3.1.2.11.10", at: start, "authentication data without a method")
            }
        }
        let identifierOffset = cursor.offset
        self.clientIdentifier = bytes.string(try cursor.readString(bytes))
        try self.checkClientIdentifier(at: identifierOffset)
        if flags.will {
            self.will = try Self.readWill(&cursor, bytes, flags, version)
        }
        // In MQTT 3.1 the remaining length takes precedence over these flags: the fields may be missing.
        let isLenient = version == .v31
        if flags.userName && !(isLenient && cursor.isAtEnd) {
            self.userName = bytes.string(try cursor.readString(bytes))
        }
        if flags.password && !(isLenient && cursor.isAtEnd) {
            self.password = bytes.array(try cursor.readBinary(bytes))
        }
        try cursor.requireEnd()
    }

    /// The version that a CONNECT names, if that much of it can be read: a client whose CONNECT is wrong further on can be
    /// answered in the terms of its version.
    package static func version(_ frame: Frame, in bytes: RawSpan) -> ProtocolVersion? {
        var cursor = Cursor(frame)
        // Why it cannot be read is told by reading the whole packet.
        return try? Self.readVersion(&cursor, bytes)
    }

    /// Protocol name and level [MQTT-3.1.2-1], [MQTT-3.1.2-2]; the name is compared as bytes.
    private static func readVersion(_ cursor: inout Cursor, _ bytes: RawSpan) throws(ProtocolError) -> ProtocolVersion {
        let start = cursor.offset
        let name = bytes.array(try cursor.readString(bytes))
        let level = try cursor.readByte(bytes)
        let isOld = name == Array("MQIsdp".utf8)
        if !isOld && name != Array("MQTT".utf8) {
            throw .refused(.unsupportedProtocolVersion, "MQTT-3.1.2-1", at: start, "unknown protocol name")
        }
        guard let version = ProtocolVersion(rawValue: level), (version == .v31) == isOld else {
            throw .refused(.unsupportedProtocolVersion, "MQTT-3.1.2-2", at: cursor.offset - 1, "unknown protocol level")
        }
        return version
    }

    /// MQTT 3.1 allows 1 to 23 characters; MQTT 3.1.1 an empty identifier only for a session that is not kept.
    private func checkClientIdentifier(at offset: Int) throws(ProtocolError) {
        let count = self.clientIdentifier.unicodeScalars.count
        if self.version == .v31 && (count == 0 || count > 23) {
            throw .refused(.clientIdentifierNotValid, "MQTT3.1 3.1", at: offset, "client id not of 1 to 23 characters")
        }
        if self.version == .v311 && count == 0 && !self.cleanStart {
            throw .refused(.clientIdentifierNotValid, "MQTT3-3.1.3-8", at: offset, "no client id for a kept session")
        }
    }

    private static func readWill(
        _ cursor: inout Cursor,
        _ bytes: RawSpan,
        _ flags: ConnectFlags,
        _ version: ProtocolVersion
    ) throws(ProtocolError) -> Will {
        var properties = Properties()
        if version == .v5 {
            properties = try Properties(&cursor, in: bytes, allowed: .will)
        }
        let topic = try cursor.readBinary(bytes)
        try TopicName.validate(bytes, topic, wildcardRequirement: "MQTT-4.7.0-1")
        let payload = try cursor.readBinary(bytes)
        return Will(
            topic: bytes.string(topic),
            payload: bytes.array(payload),
            qos: QoS(rawValue: flags.willQoSBits) ?? .atMostOnce,
            retain: flags.willRetain,
            properties: properties
        )
    }
}

// MARK: Writing

extension Connect {
    func encodeBody(into writer: inout PacketWriter) throws(ProtocolError) {
        let flags = self.flags
        try flags.check(self.version, at: writer.offset)
        try self.checkClientIdentifier(at: writer.offset)
        try writer.writeString(self.version.name.description)
        writer.write(self.version.rawValue)
        writer.write(flags.rawValue)
        writer.write(self.keepAlive)
        if self.version == .v5 {
            if self.properties.authenticationData != nil && self.properties.authenticationMethod == nil {
                throw writer.unencodable("MQTT 3.1.2.11.10", "authentication data without a method")
            }
            try self.properties.encode(into: &writer, allowed: .connect)
        }
        try writer.writeString(self.clientIdentifier)
        if let will {
            if self.version == .v5 {
                try will.properties.encode(into: &writer, allowed: .will)
            }
            if !TopicName.isValid(will.topic) {
                throw .refused(.topicNameInvalid, "MQTT 4.7", at: writer.offset, "will topic not valid")
            }
            try writer.writeString(will.topic)
            try writer.writeBinary(will.payload)
        }
        if let userName { try writer.writeString(userName) }
        if let password { try writer.writeBinary(password) }
    }

    private var flags: ConnectFlags {
        var flags: UInt8 = self.cleanStart ? 0x02 : 0
        if let will {
            flags |= 0x04 | will.qos.rawValue << 3 | (will.retain ? 0x20 : 0)
        }
        if self.password != nil { flags |= 0x40 }
        if self.userName != nil { flags |= 0x80 }
        return ConnectFlags(rawValue: flags)
    }
}

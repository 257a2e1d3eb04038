/// A SUBSCRIBE read in place: every rule of all its filters checked, no allocation.
///
/// The offsets count from the start of the span the frame was found in and hold as long as those bytes do.
package struct SubscribeView: Sendable {
    package let packetID: UInt16
    /// The MQTT 5 properties without their length.
    package let properties: Range<Int>
    /// 0 if there is none, as always in MQTT 3.
    package let subscriptionIdentifier: UInt32
    /// How many filters there are, at least one.
    package let count: Int
    /// The filters with their options, in order.
    package let subscriptions: Subscriptions

    /// Reads the SUBSCRIBE a frame holds.
    package init(frame: Frame, in bytes: RawSpan, version: ProtocolVersion) throws(ProtocolError) {
        try frame.checkFlags(.subscribe, version)
        var cursor = Cursor(frame)
        try self.init(&cursor, in: bytes, version)
        try cursor.requireEnd()
    }

    init(_ cursor: inout Cursor, in bytes: RawSpan, _ version: ProtocolVersion) throws(ProtocolError) {
        self.packetID = try cursor.readPacketID(bytes)
        var properties = PropertyScan(emptyAt: cursor.offset)
        if version == .v5 {
            properties = try PropertyScan(&cursor, in: bytes, allowed: .subscribe)
        }
        self.properties = properties.content
        self.subscriptionIdentifier = properties.subscriptionIdentifier
        if cursor.isAtEnd {
            throw .violation("MQTT-3.8.3-2", at: cursor.offset, "SUBSCRIBE without a topic filter")
        }
        self.subscriptions = Subscriptions(offset: cursor.offset, end: cursor.end, version: version)
        var count = 0
        while !cursor.isAtEnd {
            try SubscriptionView.validate(&cursor, in: bytes, version)
            count += 1
        }
        self.count = count
    }

    /// Walks through the filters of a SUBSCRIBE that has been checked.
    package struct Subscriptions: Sendable {
        fileprivate var offset: Int
        fileprivate let end: Int
        fileprivate let version: ProtocolVersion

        /// The next filter, `nil` behind the last.
        /// - Parameter bytes: the span the view was read from.
        package mutating func next(in bytes: RawSpan) -> SubscriptionView? {
            guard self.offset < self.end else { return nil }
            let length = bytes.unsafeLoadUnaligned(fromByteOffset: self.offset, as: UInt16.self)
            let start = self.offset + 2
            let filter = start..<start + Int(UInt16(bigEndian: length))
            let options = bytes.unsafeLoad(fromByteOffset: filter.upperBound, as: UInt8.self)
            self.offset = filter.upperBound + 1
            return SubscriptionView(filter: filter, options: options, version: self.version)
        }
    }
}

/// One topic filter of a SUBSCRIBE with its options (MQTT 5, section 3.8.3.1), read in place.
package struct SubscriptionView: Sendable {
    /// Where the filter lies.
    package let filter: Range<Int>
    private let options: UInt8

    fileprivate init(filter: Range<Int>, options: UInt8, version: ProtocolVersion) {
        self.filter = filter
        // MQTT 3 has the QoS alone, and 3.1 leaves the other bits open.
        self.options = version == .v5 ? options : options & 0b11
    }

    package var maximumQoS: QoS { QoS(rawValue: self.options & 0b11) ?? .atMostOnce }
    package var noLocal: Bool { self.options & 0b100 != 0 }
    package var retainAsPublished: Bool { self.options & 0b1000 != 0 }
    package var retainHandling: Subscription.RetainHandling {
        Subscription.RetainHandling(rawValue: self.options >> 4) ?? .send
    }

    fileprivate static func validate(
        _ cursor: inout Cursor,
        in bytes: RawSpan,
        _ version: ProtocolVersion
    ) throws(ProtocolError) {
        let filter = try cursor.readBinary(bytes)
        try TopicFilter.validate(bytes, filter, shared: version == .v5)
        let start = cursor.offset
        let options = try cursor.readByte(bytes)
        if version == .v311 && options & 0b1111_1100 != 0 {
            throw .malformed("MQTT3-3.8.3-4", at: start, "reserved bits beside the requested QoS")
        }
        if version == .v5 && options & 0b1100_0000 != 0 {
            throw .malformed("MQTT-3.8.3-5", at: start, "reserved subscription options")
        }
        if options & 0b11 == 0b11 {
            throw .violation("MQTT 3.8.3.1", at: start, "maximum QoS 3")
        }
        if version != .v5 { return }
        if options >> 4 == 3 {
            throw .violation("MQTT 3.8.3.1", at: start, "retain handling 3")
        }
        if options & 0b100 != 0 && SharedSubscription.hasPrefix(bytes, filter) {
            throw .violation("MQTT-3.8.3-4", at: start, "no local on a shared subscription")
        }
    }
}

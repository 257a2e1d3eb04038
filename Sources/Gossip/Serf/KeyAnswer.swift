/// What a member says about its keys.
package struct KeyAnswer: Equatable, Sendable {
    /// nil if it did what it was asked to do.
    package var refusal: String?
    /// The keys it has, where it was asked for them, in base64 as it sent them. Secret.
    package var keys: [String] = []
    package var primaryKey = ""
    /// What it has to add.
    package var remark = ""

    init(refusal: String) {
        self.refusal = refusal
    }

    init(_ ring: KeyRing, to operation: KeyOperation) {
        guard operation == .list else { return }
        self.keys = ring.keys.map(\.base64)
        self.primaryKey = self.keys.first ?? ""
    }

    /// The payload of the response.
    func encoded() -> [UInt8] {
        var writer = MessagePackWriter()
        writer.writeByte(SerfMessageType.keyResponse.rawValue)
        writer.writeMap(count: 4)
        writer.writeText("Keys")
        writer.writeArray(count: self.keys.count)
        for key in self.keys { writer.writeText(key) }
        writer.write("Message", self.refusal ?? self.remark)
        writer.write("PrimaryKey", self.primaryKey)
        writer.write("Result", self.refusal == nil)
        return writer.bytes
    }

    /// Reads the payload of a response.
    init(payload: [UInt8]) {
        self.init(refusal: "its answer was not understood")
        guard payload.first == SerfMessageType.keyResponse.rawValue else { return }
        var reader = MessagePackReader(payload, range: 1..<payload.count)
        if let answer = try? Self(&reader) { self = answer }
    }

    private init(_ reader: inout MessagePackReader) throws(WireError) {
        let limits = WireLimits.packet
        var isDone = false
        var message = ""
        var remaining = try reader.readMapCount(limit: limits.mapEntries)
        while let key = try reader.nextKey(&remaining) {
            switch key {
            case "Keys":
                for _ in 0..<(try reader.readArrayCount(limit: limits.arrayElements)) {
                    self.keys.append(try reader.readText())
                }
            case "Message": message = try reader.readText()
            case "PrimaryKey": self.primaryKey = try reader.readText()
            case "Result": isDone = try reader.readBool()
            default: try reader.skip(depth: limits.nestingDepth)
            }
        }
        if isDone { self.remark = message } else { self.refusal = message.isEmpty ? "it gives no reason" : message }
    }
}

extension KeyAnswer: CustomStringConvertible, CustomReflectable {
    package var description: String { self.refusal ?? "done" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

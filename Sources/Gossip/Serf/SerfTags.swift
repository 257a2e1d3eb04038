/// The meta of a member as Serf writes it: 0xFF and a map of text to text (WIRE.md section 7).
enum SerfTags {
    /// What the protocol allows a meta to have.
    static let bytesMax = 512
    private static let magic: UInt8 = 0xff
    private static let entriesMax = 256

    /// The tags in the order of their keys, so that equal tags are equal bytes.
    static func encode(_ tags: [String: String]) -> [UInt8] {
        var writer = MessagePackWriter()
        writer.writeByte(self.magic)
        writer.writeMap(count: tags.count)
        for (key, value) in tags.sorted(by: { $0.key < $1.key }) {
            writer.writeText(key)
            writer.writeText(value)
        }
        return writer.bytes
    }

    /// The meta of a node of ours: its tags and which start of it this is.
    static func encode(_ tags: [String: String], bootEpoch: UInt64) -> [UInt8] {
        self.encode(tags.merging([Member.epochTag: String(bootEpoch)]) { $1 })
    }

    /// Reads a meta like an agent does: what does not begin with the mark is an old-style role, what is broken has no
    /// tags.
    static func decode(_ meta: [UInt8]) -> [String: String] {
        guard let first = meta.first else { return [:] }
        guard first == self.magic else { return ["role": String(decoding: meta, as: UTF8.self)] }
        var reader = MessagePackReader(meta, range: 1..<meta.count)
        do throws(WireError) {
            var tags: [String: String] = [:]
            var remaining = try reader.readMapCount(limit: self.entriesMax)
            while let key = try reader.nextKey(&remaining) { tags[key] = try reader.readText() }
            return tags
        } catch {
            return [:]
        }
    }
}

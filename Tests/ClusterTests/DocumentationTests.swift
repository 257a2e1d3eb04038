import Gossip
import NIOCore
import Testing

@testable import Cluster

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

@Suite("docs/bridge-protocol.md")
struct DocumentationTests {
    private func page() throws -> String {
        let path =
            "\(#filePath)".split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" }
            + "/docs/bridge-protocol.md"
        let file = try #require(fopen(path, "r"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes[0..<count], as: UTF8.self)
    }

    @Test("The example's bytes are those this release sends")
    func example() throws {
        let section = try #require(try self.page().components(between: "## 10. An example", and: nil))
        let block = try #require(section.components(between: "```\n", and: "```"))
        var stream = ByteBuffer()
        for line in block.split(separator: "\n") where !line.contains(":") {
            stream.writeImmutableBuffer(ByteBuffer(hexadecimal: String(line)))
        }
        let filter = Array("a/+".utf8)
        var records = ByteBuffer()
        TestRecord.append(topic: "a/b", qos: 1, payload: "hi!".utf8, to: &records)
        let group = Array("$share/g/t".utf8)
        var shared = ByteBuffer()
        TestRecord.append(qos: 1, groups: ["$share/g/t"], payload: "hi!".utf8, to: &shared)
        let expected: [LinkFrame] = [
            .hello(
                LinkHello(compressionOffered: 0, origin: "a", originEpoch: 1, target: "b", targetEpoch: 2, stream: 1)
            ),
            .helloAnswer(
                LinkHelloAnswer(verdict: .accepted, version: 1, name: "b", epoch: 2, frameBytesMax: 16 << 20)
            ),
            .position(nextSequence: 1),
            .tableDelta(firstSequence: 1, changes: [TableChange(filter: filter, interest: 1)]),
            .tableDelta(firstSequence: 2, changes: [TableChange(filter: group, interest: 1, members: 2)]),
            .publish(RecordBatch(count: 1, sequenced: 1, records: records)),
            .control(
                TakeoverMessage.claim(
                    .init(
                        number: 1,
                        epoch: 0x0000_0193_0000_0000,
                        discards: false,
                        clientID: "c",
                        userName: nil
                    )
                ).encode()
            ),
            .publish(RecordBatch(count: 1, sequenced: 1, records: shared)),
            .heartbeat(
                LinkHeartbeat(
                    sequence: 3,
                    tableSequence: 2,
                    tableDigest: TableDigest.hash(filter: filter, interest: 1)
                        ^ TableDigest.hash(filter: group, interest: 1, members: 2),
                    retainedDigest: 0
                )
            ),
            .acknowledgement(sequence: 3, tableSequence: 2),
            .goodbye(.stopping),
        ]
        var encoded = ByteBuffer()
        for frame in expected { frame.encode(into: &encoded) }
        #expect(stream.hexadecimal == encoded.hexadecimal)
        var decoder = LinkFrameDecoder(frameBytesMax: 4_096)
        decoder.buffer = stream
        for frame in expected { #expect(try decoder.next() == frame) }
    }

    @Test("The secret of a link is derived as it says")
    func secret() throws {
        let section = try #require(try self.page().components(between: "## 11. Protection", and: nil))
        let block = try #require(section.components(between: "```\n", and: "\n```"))
        let key = try #require(KeyRing.Key(bytes: Array(0..<32)))
        #expect(ByteBuffer(bytes: key.derived(for: LinkCredentials.purpose)).hexadecimal == block)
        #expect(section.contains("`\(LinkCredentials.identity(of: key))`"))
        #expect(section.contains("`\(LinkCredentials.purpose)` as info"))
    }

    @Test("The table of frames names every type and its number")
    func frameTable() throws {
        let page = try self.page()
        let names = [
            "hello", "hello answer", "position", "publish", "publish once", "table delta", "snapshot begin",
            "snapshot entries", "snapshot end", "retained records", "heartbeat", "acknowledgement", "snapshot request",
            "retained request", "goodbye", "control", "relay", "relay answer", "check request", "check report",
        ]
        #expect(names.count == LinkFrameType.allCases.count)
        for (type, name) in zip(LinkFrameType.allCases, names) {
            #expect(page.contains("| \(type.rawValue) | \(name) |"))
        }
    }
}

extension String {
    /// What stands between two texts, without Foundation.
    fileprivate func components(between start: String, and end: String?) -> String? {
        guard let from = self.firstRange(of: start)?.upperBound else { return nil }
        let rest = self[from...]
        guard let end else { return String(rest) }
        return rest.firstRange(of: end).map { String(rest[..<$0.lowerBound]) }
    }
}

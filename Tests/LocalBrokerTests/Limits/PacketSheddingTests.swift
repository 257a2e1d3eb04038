import NIOCore
import Protocol
import Testing

@testable import LocalBroker

@Suite("Making room among packets that wait")
struct PacketSheddingTests {
    private func buffer(_ packets: [Packet], _ version: ProtocolVersion = .v5) throws -> ByteBuffer {
        var buffer = ByteBuffer()
        for packet in packets { try packet.encode(into: &buffer, version: version) }
        return buffer
    }

    private func shed(
        _ buffer: ByteBuffer,
        head: Int = 0,
        version: ProtocolVersion = .v5,
        keepBytes: Int
    ) -> (kept: ByteBuffer, count: Int) {
        var buffer = buffer
        let count = PacketShedding.shed(&buffer, head: head, version: version, keepBytes: keepBytes)
        return (buffer, count)
    }

    private let packets: [Packet] = [
        .message("t", "1"), .ack(Ack(.pubAck, packetID: 1)), .message("t", "2"),
        .message("t", "3", .atLeastOnce, id: 2),
        .message("t", "4"), .pingResp,
    ]

    @Test("the oldest messages of QoS 0 go, and no more than must", arguments: [ProtocolVersion.v311, .v5])
    func oldest(version: ProtocolVersion) throws {
        let all = try self.buffer(self.packets, version)
        let size = try self.buffer([self.packets[0]], version).readableBytes
        let one = self.shed(all, version: version, keepBytes: all.readableBytes - 1)
        #expect(one.count == 1)
        let expected = try self.buffer(Array(self.packets.dropFirst()), version)
        #expect(one.kept == expected)
        let two = self.shed(all, version: version, keepBytes: all.readableBytes - size - 1)
        #expect(two.count == 2)
        let none = self.shed(all, version: version, keepBytes: all.readableBytes)
        #expect(none.count == 0 && none.kept == all)
    }

    @Test("everything else stays, however little may be kept")
    func others() throws {
        let (kept, count) = self.shed(try self.buffer(self.packets), keepBytes: 0)
        #expect(count == 3)
        let expected = try self.buffer([self.packets[1], self.packets[3], self.packets[5]])
        #expect(kept == expected)
    }

    @Test("the end of a packet that was sent in part stays", arguments: 1..<5)
    func head(sent: Int) throws {
        var buffer = try self.buffer(self.packets)
        let first = try self.buffer([self.packets[0]]).readableBytes
        #expect(PacketShedding.packetStart(in: buffer, head: 0, atOrAfter: sent) == first)
        buffer.moveReaderIndex(forwardBy: sent)
        let (kept, count) = self.shed(buffer, head: first - sent, keepBytes: 0)
        #expect(count == 2)
        #expect(
            kept.readableBytesView.prefix(first - sent).elementsEqual(buffer.readableBytesView.prefix(first - sent))
        )
        let rest = kept.getSlice(at: kept.readerIndex + first - sent, length: kept.readableBytes - (first - sent))
        let expected = try self.buffer([self.packets[1], self.packets[3], self.packets[5]])
        #expect(rest == expected)
    }

    @Test("a message that gives a topic alias its meaning stays, those that use it go")
    func alias() throws {
        var properties = Properties()
        properties.topicAlias = 3
        let packets: [Packet] = [
            .message("t", "1", properties: properties), .message("", "2", properties: properties), .message("u", "3"),
        ]
        let (kept, count) = self.shed(try self.buffer(packets), keepBytes: 0)
        #expect(count == 2)
        let expected = try self.buffer([packets[0]])
        #expect(kept == expected)
    }

    @Test("what is left is the same when the memory in front of it has been given back, moved or not")
    func givenBack() throws {
        let size = 8192
        let payloads = (0..<1024).map { index in String(repeating: "\(index % 10)", count: size) }
        var buffer = try self.buffer(payloads.map { .message("t", $0) })
        for keepBytes in [7 << 20, 5 << 20, 1 << 20, 64 * 1024] {
            let before = buffer
            let count = PacketShedding.shed(&buffer, head: 0, version: .v5, keepBytes: keepBytes)
            #expect(count > 0 && buffer.readableBytes <= keepBytes && buffer.readableBytes > keepBytes - size - 16)
            let expected = before.getSlice(at: before.writerIndex - buffer.readableBytes, length: buffer.readableBytes)
            PacketShedding.giveBack(&buffer)
            #expect(buffer == expected)
            #expect((buffer.readerIndex == 0) == (keepBytes == 1 << 20))
        }
        try Packet.pingResp.encode(into: &buffer, version: .v5)
        #expect(PacketShedding.shed(&buffer, head: 0, version: .v5, keepBytes: 0) == 7)
        #expect(try buffer == self.buffer([.pingResp]))
    }
}

import NIOCore
import Testing

@testable import Gossip

@Suite("The size of packets")
struct PacketSizeTests {
    /// The sizes of what a node sends that hears of so many members with long tags.
    private static func sizes(members: Int, packetBytesMax: Int) -> [Int] {
        let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)
        let settings = Instance.Settings(
            name: "me",
            address: NodeAddress(literal: "10.0.0.1", port: 7_946)!,
            bootEpoch: 1,
            incarnation: 100,
            packetBytesMax: packetBytesMax,
            randomSeed: 1
        )
        var instance = Instance(settings, now: start)
        var directives: [Directive] = []
        for number in 0..<members {
            let address = NodeAddress(literal: "10.0.1.\(number)", port: 7_946)!
            let alive = Alive(
                incarnation: 5,
                node: "member\(number)",
                address: address.bytes,
                port: address.port,
                meta: SerfTags.encode(["note": String(repeating: "x", count: 200)]),
                versions: [1, 5, 2, 2, 5, 5]
            )
            directives += instance.onPacket(Message.alive(alive).encoded(), from: address, now: start)
        }
        for _ in 0..<200 { directives += instance.onTimer(now: instance.nextDeadline) }
        return directives.compactMap { if case .send(let bytes, _) = $0 { bytes.count } else { nil } }
    }

    @Test(
        "No packet is larger than is set, in small rings and in large ones, and what fits is used",
        arguments: [12, 40],
        [1_000, 1_200, 1_400, 8_000]
    )
    func limit(members: Int, packetBytesMax: Int) throws {
        let sizes = Self.sizes(members: members, packetBytesMax: packetBytesMax)
        let largest = try #require(sizes.max())
        #expect(largest <= packetBytesMax)
        // Three members with such tags fit into a thousand bytes.
        #expect(largest > min(packetBytesMax, 2_000) * 3 / 4)
    }
}

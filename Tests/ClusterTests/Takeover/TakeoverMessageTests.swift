import LocalBroker
import NIOCore
import Testing

@testable import Cluster

@Suite("Messages that move sessions")
struct TakeoverMessageTests {
    private static let straggler = NodeLife(name: "x", epoch: 5)

    /// One of each, and its bytes written by hand.
    static let all: [(TakeoverMessage, String)] = [
        (
            .claim(.init(number: 300, epoch: 2, discards: true, clientID: "ab", userName: "u")),
            "01 ac 02 00 00 00 00 00 00 00 02 03 02 61 62 01 75"
        ),
        (
            .claim(.init(number: 1, epoch: 2, discards: false, clientID: "ab", userName: nil)),
            "01 01 00 00 00 00 00 00 00 02 00 02 61 62"
        ),
        (.answer(claim: 3, .refused, epoch: 9), "02 03 01 00 00 00 00 00 00 00 09"),
        (
            .subscriptions(claim: 3, epoch: 9, isLast: true, stragglers: [Self.straggler], ByteBuffer(bytes: [7, 8])),
            "03 03 00 00 00 00 00 00 00 09 01 01 00 00 00 00 00 00 00 05 01 78 07 08"
        ),
        (.cut(claim: 3, giver: "g", tableSequence: 300), "04 03 ac 02 01 67"),
        (.mark(ClaimKey(claimer: "c", number: 3), giver: "g"), "05 03 01 63 01 67"),
        (.state(claim: 3, isLast: false, stragglers: [], ByteBuffer(bytes: [7])), "06 03 00 00 07"),
        (
            .state(claim: 3, isLast: true, stragglers: [Self.straggler, NodeLife(name: "yz", epoch: 1)], ByteBuffer()),
            "06 03 01 02 00 00 00 00 00 00 00 05 01 78 00 00 00 00 00 00 00 01 02 79 7a"
        ),
        (.taken(claim: 3, stragglers: []), "07 03 00"),
        (.taken(claim: 3, stragglers: [Self.straggler]), "07 03 01 00 00 00 00 00 00 00 05 01 78"),
        (.cancelled(claim: 3), "08 03"),
        (
            .owned([HeldSession(clientID: "ab", epoch: 9), HeldSession(clientID: "", epoch: 1)]),
            "09 02 00 00 00 00 00 00 00 09 02 61 62 00 00 00 00 00 00 00 01 00"
        ),
        (
            .offer([
                OfferedSession(clientID: "ab", userName: "u", epoch: 9),
                OfferedSession(clientID: "", userName: nil, epoch: 1),
            ]),
            "0a 02 00 00 00 00 00 00 00 09 01 02 61 62 01 75 00 00 00 00 00 00 00 01 00 00"
        ),
        (.ready(claim: 3, straggler: Self.straggler), "0b 03 00 00 00 00 00 00 00 05 01 78"),
        (
            .rest(claim: 3, straggler: Self.straggler, isMarked: true, isLast: false, ByteBuffer(bytes: [7])),
            "0c 03 00 00 00 00 00 00 00 05 01 78 02 07"
        ),
    ]

    @Test("Every message is written and read byte for byte as by hand", arguments: Self.all.indices)
    func golden(index: Int) throws {
        let (message, bytes) = Self.all[index]
        #expect(message.encode().hexadecimal == bytes)
        #expect(try TakeoverMessage.decode(ByteBuffer(hexadecimal: bytes)) == message)
    }

    @Test(
        "What is no message ends in a typed error",
        arguments: [
            "", "00 01", "09 01", "02 03 03", "06 03 02", "07", "09 ff 7f", "0a 01", "0a ff 7f", "06 03 00 ff 7f",
            "07 03 02 01 78",
            "0b 03", "0c 03 00 00 00 00 00 00 00 05 01 78 04",
        ]
    )
    func malformed(bytes: String) {
        #expect(throws: LinkError.self) { try TakeoverMessage.decode(ByteBuffer(hexadecimal: bytes)) }
    }

    @Test("Corrupted and random bytes end in a message or a typed error")
    func fuzz() {
        var generator = SeededGenerator(seed: 2)
        for input in 0..<fuzzInputs {
            var bytes = (0..<Int.random(in: 0..<60, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            if input % 4 > 0 {
                bytes = Array(Self.all[input % Self.all.count].0.encode().readableBytesView)
                for _ in 0..<Int.random(in: 1...3, using: &generator) {
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
                }
            }
            guard let message = try? TakeoverMessage.decode(ByteBuffer(bytes: bytes)) else { continue }
            #expect((try? TakeoverMessage.decode(message.encode())) == message)
        }
    }

    @Test("What is too long for one message is cut, and nothing is one part too")
    func parts() {
        #expect(TakeoverMessage.parts(of: ByteBuffer()) == [ByteBuffer()])
        let whole = ByteBuffer(repeating: 1, count: TakeoverMessage.partBytes + 1)
        #expect(TakeoverMessage.parts(of: whole).map(\.readableBytes) == [TakeoverMessage.partBytes, 1])
    }
}

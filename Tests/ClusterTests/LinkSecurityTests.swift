import NIOCore
import Testing

@testable import Cluster

@Suite("What protects links")
struct LinkSecurityTests {
    @Test("Each key is tried once, the first one first")
    func keyChoice() {
        var choice = LinkKeyChoice()
        var tried = [choice.index]
        while choice.onUnknown(of: 3) { tried.append(choice.index) }
        #expect(tried == [0, 1, 2])
        #expect(choice.index == 0)
        let hasAnother = choice.onUnknown(of: 1)
        #expect(!hasAnother && choice.index == 0)
        _ = choice.onUnknown(of: 2)
        #expect(choice.index == 1)
        choice.reset()
        #expect(choice.index == 0)
    }

    @Test("The first bytes tell a handshake from a hello and from anything else")
    func opening() {
        let long = String(repeating: "n", count: 200)
        for name in ["a", long] {
            var hello = ByteBuffer()
            LinkFrame.hello(
                LinkHello(origin: name, originEpoch: 1, target: "b", targetEpoch: 1, stream: 1)
            ).encode(into: &hello)
            #expect(LinkOpening.judge(hello) == .hello)
        }
        #expect(LinkOpening.judge(ByteBuffer()) == nil)
        #expect(LinkOpening.judge(ByteBuffer(bytes: [22])) == .handshake)
        #expect(LinkOpening.judge(ByteBuffer(bytes: [22, 3, 1, 2, 0])) == .handshake)
        #expect(LinkOpening.judge(ByteBuffer(string: "GET / HTTP/1.1\r\n")) == .other)
        #expect(LinkOpening.judge(ByteBuffer(bytes: [37])) == .other)
    }

    private func source(_ address: String) throws -> StrangerLimit.Source {
        StrangerLimit.Source(try SocketAddress(ipAddress: address, port: 1))
    }

    @Test("One address, of IPv6 one network, has a share of the strangers only, and members have theirs")
    func strangers() throws {
        var limit = StrangerLimit(most: 3, mostOfSource: 2)
        let (first, second, third) = (
            try self.source("10.0.0.1"), try self.source("10.0.0.2"), try self.source("10.0.0.3")
        )
        let opened = [first, first, first, second, third].map { limit.onOpened($0, isOfMember: false) }
        #expect(opened == [true, true, false, true, false])
        let ofMembers = [third, first].map { limit.onOpened($0, isOfMember: true) }
        #expect(ofMembers == [true, false])
        limit.onClosed(third)
        limit.onClosed(first)
        let later = [first, second].map { limit.onOpened($0, isOfMember: false) }
        #expect(later == [true, false])
        #expect(limit.open == 3)
        #expect(try self.source("2001:db8::1") == self.source("2001:db8::2:1"))
        #expect(try self.source("2001:db8::1") != self.source("2001:db8:0:1::1"))
        #expect(try self.source("fd00::1") != self.source("fd00::2"))
    }

    @Test("Failures of one address have a line a minute, which counts those since the last one")
    func failureLog() {
        var log = FailureLog()
        let start = NIODeadline.uptimeNanoseconds(1)
        #expect(log.onFailure(of: "a", now: start) == 1)
        #expect(log.onFailure(of: "a", now: start + .seconds(59)) == nil)
        #expect(log.onFailure(of: "b", now: start + .seconds(59)) == 1)
        #expect(log.onFailure(of: "a", now: start + .seconds(60)) == 2)
        #expect(log.onFailure(of: "a", now: start + .seconds(120)) == 1)
        #expect(log.count == 5)
        let lines = (0..<1_000).compactMap { log.onFailure(of: "\($0)", now: start + .seconds(121)) }
        #expect(lines.count <= FailureLog.addressesMax + 1)
        #expect(log.onFailure(of: "late", now: start + .seconds(182)) == 1)
    }
}

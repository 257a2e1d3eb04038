import LocalBroker
import NIOCore
import Testing

@testable import Cluster

@Suite("Sessions that are given away")
struct OfferTests {
    private let now = NIODeadline.uptimeNanoseconds(1_000_000_000)

    private func core(linked peers: [String]) -> TakeoverCore {
        var core = TakeoverCore(name: "a", epoch: 0)
        for peer in peers { _ = core.onLinkUp(peer, now: self.now) }
        return core
    }

    private func sessions(_ count: Int) -> [OfferedSession] {
        (0..<count).map { OfferedSession(clientID: "s\($0)", userName: nil, epoch: UInt64($0 + 1)) }
    }

    private func offered(_ actions: [TakeoverCore.Action]) -> [String: [String]] {
        var offered: [String: [String]] = [:]
        for case .send(.offer(let sessions), let peer) in actions {
            offered[peer, default: []] += sessions.map(\.clientID)
        }
        return offered
    }

    /// The peer claims a session, and has it.
    private func take(
        _ client: String,
        number: UInt64,
        by peer: String,
        from core: inout TakeoverCore
    ) -> [TakeoverCore.Action] {
        let key = ClaimKey(claimer: peer, number: number)
        let claim = TakeoverMessage.Claim(number: number, epoch: 1, discards: false, clientID: client, userName: nil)
        var actions = core.onMessage(.claim(claim), from: peer, now: self.now)
        actions += core.onFenced(key, .held(epoch: 1, subscriptions: ByteBuffer()), now: self.now)
        actions += core.onMessage(.cut(claim: number, giver: "a", tableSequence: 0), from: peer, now: self.now)
        actions += core.onQuiesced(key, giver: "a", now: self.now)
        for origin in core.linked.sorted() {
            actions += core.onMessage(.mark(key, giver: "a"), from: origin, now: self.now)
        }
        actions += core.onCaptured(key, ByteBuffer(integer: 1 as UInt8), now: self.now)
        return actions + core.onMessage(.taken(claim: number, stragglers: []), from: peer, now: self.now)
    }

    @Test("Each peer is offered its part, some sessions at a time, and the next when one has gone")
    func spreads() {
        var core = self.core(linked: ["b", "c", "d"])
        // There is a link to d, but it is about to end too.
        let first = self.offered(core.offer(self.sessions(100), to: ["b", "c"], now: self.now))
        #expect(first.keys.sorted() == ["b", "c"])
        #expect(first["b"]?.count == 32 && first["c"]?.count == 32)
        let client = first["b"]?.first ?? ""
        let next = self.take(client, number: 1, by: "b", from: &core)
        #expect(next.contains(.leave(ClaimKey(claimer: "b", number: 1), keepsRoutes: false)))
        #expect(self.offered(next).values.flatMap(\.self) == ["s64"])
        #expect(!next.contains(.offersOver))
    }

    @Test("It is over when all have gone")
    func ends() {
        var core = self.core(linked: ["b"])
        #expect(core.offer([], to: ["b"], now: self.now) == [.offersOver])
        _ = core.offer(self.sessions(2), to: ["b"], now: self.now)
        #expect(!self.take("s0", number: 1, by: "b", from: &core).contains(.offersOver))
        #expect(self.take("s1", number: 2, by: "b", from: &core).last == .offersOver)
        #expect(core.nextDeadline == nil)
    }

    @Test("Nobody to give to, or nobody who takes: what is not taken stays, and it is over in a bounded time")
    func stays() throws {
        var core = self.core(linked: ["b"])
        #expect(core.offer(self.sessions(2), to: ["c"], now: self.now) == [.offersOver])
        _ = core.offer(self.sessions(100), to: ["b"], now: self.now)
        var over = false
        for _ in 0..<2 {
            let deadline = try #require(core.nextDeadline)
            over = core.onTime(deadline).contains(.offersOver)
        }
        #expect(over)
    }

    @Test("What was offered to a peer that is gone is offered to another")
    func again() {
        var core = self.core(linked: ["b", "c"])
        let first = self.offered(core.offer(self.sessions(4), to: ["b", "c"], now: self.now))
        let again = self.offered(core.onPeerGone("b", now: self.now))
        #expect(again.keys.sorted() == ["c"])
        #expect(Set(again["c"] ?? []) == Set(first["b"] ?? []) && first["b"]?.count == 2)
        #expect(core.onPeerGone("c", now: self.now).last == .offersOver)
    }

    @Test("A session that is under way is not given up by the time for an answer")
    func underWay() throws {
        var core = self.core(linked: ["b"])
        _ = core.offer(self.sessions(1), to: ["b"], now: self.now)
        let claim = TakeoverMessage.Claim(number: 1, epoch: 1, discards: false, clientID: "s0", userName: nil)
        _ = core.onMessage(.claim(claim), from: "b", now: self.now)
        _ = core.onFenced(
            ClaimKey(claimer: "b", number: 1),
            .held(epoch: 1, subscriptions: ByteBuffer()),
            now: self.now
        )
        let deadline = try #require(core.nextDeadline)
        #expect(core.onTime(deadline).isEmpty)
        #expect(core.onMessage(.cancelled(claim: 1), from: "b", now: deadline).last == .offersOver)
    }
}

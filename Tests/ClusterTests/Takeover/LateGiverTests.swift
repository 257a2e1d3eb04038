import LocalBroker
import NIOCore
import Testing

@testable import Cluster

@Suite("Nodes that give a session late, or die while they do")
struct LateGiverTests {
    private let now = NIODeadline.uptimeNanoseconds(1_000_000_000)

    /// Node `b` claims a session from `a` and `c`.
    private func claiming() -> (core: TakeoverCore, number: UInt64) {
        var core = TakeoverCore(name: "b", epoch: 0)
        for peer in ["a", "c"] { _ = core.onLinkUp(peer, now: self.now) }
        let (number, _) = core.onConnect(clientID: "s", userName: nil, discards: false, epoch: 9, now: self.now)
        return (core, number)
    }

    private func subscriptions(of number: UInt64) -> TakeoverMessage {
        .subscriptions(claim: number, epoch: 3, isLast: true, stragglers: [], ByteBuffer(integer: UInt32(0)))
    }

    @Test("A node that answers too late keeps its session, which is then claimed for the one that was begun")
    func late() throws {
        var (core, number) = self.claiming()
        #expect(core.onMessage(.answer(claim: number, .none, epoch: 0), from: "c", now: self.now).count == 1)
        let deadline = try #require(core.nextDeadline)
        #expect(core.onTime(deadline) == [.finish(number, givers: [], nil)])
        #expect(
            core.onMessage(self.subscriptions(of: number), from: "a", now: deadline).suffix(2) == [
                .send(.cancelled(claim: number), to: "a"),
                .compare(HeldSession(clientID: "s", epoch: 3), peer: "a"),
            ]
        )
        #expect(core.late.isEmpty)
    }

    @Test("Of late nodes that have nothing, or are gone, nothing is kept")
    func nothing() throws {
        var (core, number) = self.claiming()
        _ = core.onTime(try #require(core.nextDeadline))
        #expect(core.late.count == 1)
        _ = core.onMessage(.answer(claim: number, .none, epoch: 0), from: "a", now: self.now)
        _ = core.onPeerGone("c", now: self.now)
        #expect(core.late.isEmpty)
    }

    @Test("What has come for a session since its subscriptions are here goes on when its giver dies")
    func giverDies() {
        var (core, number) = self.claiming()
        _ = core.onMessage(.answer(claim: number, .none, epoch: 0), from: "c", now: self.now)
        _ = core.onMessage(self.subscriptions(of: number), from: "a", now: self.now)
        _ = core.onInstalled(number, giver: "a", tableSequence: 1, now: self.now)
        let key = ClaimKey(claimer: "b", number: number)
        _ = core.onQuiesced(key, giver: "a", now: self.now)
        #expect(core.onPeerGone("a", now: self.now).allSatisfy { $0 != .abandon(number, giver: "a") })
        let last = core.onMessage(.mark(key, giver: "a"), from: "c", now: self.now).last
        #expect(last == .finish(number, givers: ["a"], nil))
    }

    @Test("Without its subscriptions nothing of it goes on")
    func giverDiesEarly() {
        var (core, number) = self.claiming()
        _ = core.onMessage(.answer(claim: number, .none, epoch: 0), from: "c", now: self.now)
        _ = core.onMessage(self.subscriptions(of: number), from: "a", now: self.now)
        let actions = core.onPeerGone("a", now: self.now)
        #expect(actions == [.abandon(number, giver: "a"), .finish(number, givers: [], nil)])
    }

    @Test("A giver that took its claimer for dead tells it so, and the claimer waits no longer")
    func oneSided() throws {
        var giver = TakeoverCore(name: "a", epoch: 0)
        _ = giver.onLinkUp("b", now: self.now)
        let claim = TakeoverMessage.Claim(number: 1, epoch: 9, discards: false, clientID: "s", userName: nil)
        _ = giver.onMessage(.claim(claim), from: "b", now: self.now)
        let key = ClaimKey(claimer: "b", number: 1)
        _ = giver.onFenced(key, .held(epoch: 3, subscriptions: ByteBuffer()), now: self.now)
        #expect(giver.onPeerGone("b", now: self.now).contains(.takeBack(key)))
        let told = giver.onLinkUp("b", now: self.now)
        #expect(told.first == .send(.answer(claim: 1, .none, epoch: 0), to: "b"))

        var (core, number) = self.claiming()
        _ = core.onMessage(.answer(claim: number, .none, epoch: 0), from: "c", now: self.now)
        _ = core.onMessage(self.subscriptions(of: number), from: "a", now: self.now)
        _ = core.onInstalled(number, giver: "a", tableSequence: 1, now: self.now)
        let actions = core.onMessage(.answer(claim: number, .none, epoch: 0), from: "a", now: self.now)
        #expect(actions.suffix(2) == [.abandon(number, giver: "a"), .finish(number, givers: [], nil)])
    }
}

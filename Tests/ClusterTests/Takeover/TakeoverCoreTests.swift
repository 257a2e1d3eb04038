import LocalBroker
import NIOCore
import Testing

@testable import Cluster

@Suite("What the takeover core decides")
struct TakeoverCoreTests {
    private let now = NIODeadline.uptimeNanoseconds(1_000_000_000)
    private let key = ClaimKey(claimer: "b", number: 1)

    private func claim(_ number: UInt64, epoch: UInt64) -> TakeoverMessage {
        .claim(.init(number: number, epoch: epoch, discards: false, clientID: "s", userName: nil))
    }

    /// A node that is about to give its session to `b`.
    private func giver() -> TakeoverCore {
        var core = TakeoverCore(name: "a", epoch: 0)
        _ = core.onLinkUp("b", now: self.now)
        _ = core.onMessage(self.claim(1, epoch: 8), from: "b", now: self.now)
        _ = core.onFenced(self.key, .held(epoch: 5, subscriptions: ByteBuffer()), now: self.now)
        return core
    }

    @Test("Who comes too late for a session is told that it stays, for by now it may have one of its own")
    func tellsOfWhatStays() {
        var core = self.giver()
        let actions = core.onMessage(.cancelled(claim: 1), from: "b", now: self.now)
        #expect(
            actions == [
                .takeBack(self.key), .send(.owned([HeldSession(clientID: "s", epoch: 5)]), to: "b"),
            ]
        )
        #expect(core.movingCount == 0)
    }

    @Test("A node that was taken for dead while it gave a session is told when it is back that nobody waits for it")
    func cancelsWhatWasForsaken() {
        var core = TakeoverCore(name: "a", epoch: 0)
        _ = core.onLinkUp("b", now: self.now)
        let (number, _) = core.onConnect(clientID: "s", userName: nil, discards: false, epoch: 8, now: self.now)
        let subscriptions = TakeoverMessage.subscriptions(
            claim: number,
            epoch: 5,
            isLast: true,
            stragglers: [],
            ByteBuffer()
        )
        _ = core.onMessage(subscriptions, from: "b", now: self.now)
        let gone = core.onPeerGone("b", now: self.now)
        #expect(gone == [.abandon(number, giver: "b"), .finish(number, givers: [], nil)])
        #expect(core.onLinkUp("b", now: self.now) == [.send(.cancelled(claim: number), to: "b"), .tell("b")])
    }

    @Test("With a node that is gone its further claims are gone, and the session stays")
    func forgetsClaimsOfTheGone() {
        var core = self.giver()
        _ = core.onMessage(self.claim(2, epoch: 9), from: "b", now: self.now)
        #expect(core.onPeerGone("b", now: self.now) == [.takeBack(self.key)])
        #expect(core.movingCount == 0)
    }
}

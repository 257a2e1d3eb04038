import LocalBroker
import NIOCore
import Testing

@testable import Cluster

/// Node `x` is out of sight while the session of client `s` moves.
@Suite("Nodes that are out of sight while a session moves")
struct StragglerTests {
    private let now = NIODeadline.uptimeNanoseconds(1_000_000_000)
    private let x = NodeLife(name: "x", epoch: 7)
    private let rest = ByteBuffer(bytes: [1, 2])

    private func core(_ name: String, knowing peers: [String]) -> TakeoverCore {
        var core = TakeoverCore(name: name, epoch: 0)
        for peer in peers {
            _ = core.onKnown(peer, epoch: 7, now: self.now)
            if peer != "x" { _ = core.onLinkUp(peer, now: self.now) }
        }
        return core
    }

    /// `b` has taken the session from `a`.
    private func claimer() -> (core: TakeoverCore, number: UInt64, actions: [TakeoverCore.Action]) {
        var core = self.core("b", knowing: ["a", "x"])
        let (number, actions) = self.claim(&core, of: "s")
        return (core, number, actions)
    }

    private func claim(
        _ core: inout TakeoverCore,
        of clientID: String
    ) -> (number: UInt64, actions: [TakeoverCore.Action]) {
        let (number, _) = core.onConnect(clientID: clientID, userName: nil, discards: false, epoch: 9, now: self.now)
        let subscriptions = TakeoverMessage.subscriptions(
            claim: number,
            epoch: 3,
            isLast: true,
            stragglers: [],
            ByteBuffer()
        )
        _ = core.onMessage(subscriptions, from: "a", now: self.now)
        _ = core.onInstalled(number, giver: "a", tableSequence: 4, now: self.now)
        let key = ClaimKey(claimer: "b", number: number)
        _ = core.onQuiesced(key, giver: "a", now: self.now)
        _ = core.onMessage(.mark(key, giver: "a"), from: "a", now: self.now)
        let state = TakeoverMessage.state(claim: number, isLast: true, stragglers: [self.x], ByteBuffer())
        _ = core.onMessage(state, from: "a", now: self.now)
        let actions = core.onWhole(number, giver: "a", isReadable: true, now: self.now)
        return (number, actions + core.onStored(number, now: self.now))
    }

    private func rest(_ number: UInt64, isMarked: Bool = true) -> TakeoverMessage {
        .rest(claim: number, straggler: self.x, isMarked: isMarked, isLast: true, self.rest)
    }

    /// `a` has given the session to `b`.
    private func giver(earlier: UInt64? = nil) -> (core: TakeoverCore, key: ClaimKey, actions: [TakeoverCore.Action]) {
        var core = self.core("a", knowing: ["b", "x"])
        let key = ClaimKey(claimer: "b", number: 5)
        let actions = self.give(&core, key, earlier: earlier)
        return (core, key, actions)
    }

    private func give(_ core: inout TakeoverCore, _ key: ClaimKey, earlier: UInt64?) -> [TakeoverCore.Action] {
        let claim = TakeoverMessage.Claim(
            number: key.number,
            epoch: 9,
            discards: false,
            clientID: "s",
            userName: nil
        )
        _ = core.onMessage(.claim(claim), from: key.claimer, now: self.now)
        var actions = core.onFenced(
            key,
            .held(epoch: 3, subscriptions: ByteBuffer(), earlier: earlier),
            now: self.now
        )
        let cut = TakeoverMessage.cut(claim: key.number, giver: core.name, tableSequence: 0)
        _ = core.onMessage(cut, from: key.claimer, now: self.now)
        _ = core.onQuiesced(key, giver: core.name, now: self.now)
        for peer in core.linked.sorted() {
            _ = core.onMessage(.mark(key, giver: core.name), from: peer, now: self.now)
        }
        actions += core.onCaptured(key, ByteBuffer(), now: self.now)
        return actions
            + core.onMessage(.taken(claim: key.number, stragglers: [self.x]), from: key.claimer, now: self.now)
    }

    @Test(
        "The claimer takes nothing of it, asks it for its mark when the giver hears it, and lets it wait for the rest"
    )
    func claims() {
        var (core, number, actions) = self.claimer()
        #expect(
            actions == [
                .leaveOut(number, giver: "a", ["x"]), .finish(number, givers: ["a"], nil),
                .send(.taken(claim: number, stragglers: [self.x]), to: "a"),
            ]
        )
        let key = ClaimKey(claimer: "b", number: number)
        let cut = TakeoverMessage.cut(claim: number, giver: "a", tableSequence: 4)
        #expect(core.onMessage(.ready(claim: number, straggler: self.x), from: "a", now: self.now).isEmpty)
        #expect(core.onLinkUp("x", now: self.now).contains(.send(cut, to: "x")))
        #expect(core.onMessage(.mark(key, giver: "a"), from: "x", now: self.now) == [.hold("x")])
        #expect(
            core.onMessage(self.rest(number), from: "a", now: self.now) == [
                .addRest(number, giver: "a", clientID: "s", self.rest, isLast: true),
                .takeFrom(number, node: "x"), .release("x"), .endMove(number, giver: "a"),
            ]
        )
        #expect(core.stragglingCount == 0 && core.nextDeadline == nil)
    }

    @Test("The rest may come before the mark")
    func restFirst() {
        var (core, number, _) = self.claimer()
        _ = core.onLinkUp("x", now: self.now)
        let add = TakeoverCore.Action.addRest(number, giver: "a", clientID: "s", self.rest, isLast: true)
        #expect(core.onMessage(self.rest(number), from: "a", now: self.now) == [add])
        #expect(
            core.onMessage(.mark(ClaimKey(claimer: "b", number: number), giver: "a"), from: "x", now: self.now) == [
                .hold("x"), .takeFrom(number, node: "x"), .release("x"), .endMove(number, giver: "a"),
            ]
        )
    }

    @Test("Without a mark on its way the rest is enough")
    func noMark() {
        var (core, number, _) = self.claimer()
        #expect(
            core.onMessage(self.rest(number, isMarked: false), from: "a", now: self.now).suffix(2) == [
                .takeFrom(number, node: "x"), .endMove(number, giver: "a"),
            ]
        )
    }

    @Test("Nothing is waited for that cannot come: of its next life, and after a bounded time, all is taken")
    func givesUp() throws {
        var (core, number, _) = self.claimer()
        #expect(core.onKnown("x", epoch: 8, now: self.now) == [.takeFrom(number, node: "x")])
        #expect(
            core.onMessage(self.rest(number, isMarked: false), from: "a", now: self.now).contains(
                .endMove(number, giver: "a")
            )
        )

        (core, number, _) = self.claimer()
        #expect(core.nextDeadline == nil)
        _ = core.onLinkUp("x", now: self.now)
        let deadline = try #require(core.nextDeadline)
        #expect(deadline == self.now + core.settings.stragglerTimeout)
        core.onLinkDown("x", now: self.now)
        #expect(core.nextDeadline == nil)
        _ = core.onLinkUp("x", now: self.now)
        #expect(core.onTime(deadline) == [.takeFrom(number, node: "x")])

        (core, number, _) = self.claimer()
        _ = core.onMessage(.mark(ClaimKey(claimer: "b", number: number), giver: "a"), from: "x", now: self.now)
        let held = try #require(core.nextDeadline)
        #expect(held == self.now + core.settings.holdTimeout)
        #expect(core.onTime(held) == [.takeFrom(number, node: "x"), .release("x")])

        (core, number, _) = self.claimer()
        #expect(core.onLost("a", now: self.now) == [.takeFrom(number, node: "x"), .endMove(number, giver: "a")])
        #expect(core.stragglingCount == 0)
    }

    @Test("The giver keeps the routes, says when it hears the node, and gives the rest when its mark has come")
    func gives() {
        var (core, key, actions) = self.giver()
        #expect(actions.contains(.send(.state(claim: 5, isLast: true, stragglers: [self.x], ByteBuffer()), to: "b")))
        #expect(actions.last == .leave(key, keepsRoutes: true))
        #expect(core.movingCount == 0 && core.stragglingCount == 1)
        #expect(core.onLinkUp("x", now: self.now).contains(.send(.ready(claim: 5, straggler: self.x), to: "b")))
        #expect(
            core.onMessage(.mark(key, giver: "a"), from: "x", now: self.now) == [
                .markDeparting(key, origin: "x"), .takeRest(key, node: self.x),
            ]
        )
        #expect(
            core.onRestTaken(key, node: self.x, self.rest) == [.send(self.rest(5), to: "b"), .forget(key)]
        )
        #expect(core.stragglingCount == 0)
    }

    @Test("A giver says so where nothing more can come: the node is dead, or the session is here again")
    func givesNothing() {
        var (core, key, _) = self.giver()
        #expect(core.onLost("x", now: self.now) == [.takeRest(key, node: self.x)])
        #expect(
            core.onRestTaken(key, node: self.x, ByteBuffer()) == [
                .send(.rest(claim: 5, straggler: self.x, isMarked: false, isLast: true, ByteBuffer()), to: "b"),
                .forget(key),
            ]
        )
        let taken = TakeoverMessage.taken(claim: 6, stragglers: [self.x])
        #expect(
            core.onMessage(taken, from: "b", now: self.now) == [
                .send(.rest(claim: 6, straggler: self.x, isMarked: false, isLast: true, ByteBuffer()), to: "b")
            ]
        )
    }

    @Test("With the claimer the rest is gone, and nothing is kept for it")
    func claimerLost() {
        var (core, key, _) = self.giver()
        #expect(core.onLost("b", now: self.now) == [.forget(key)])
        #expect(core.stragglingCount == 0)
    }

    @Test("A session that moves on before it has the rest says so, and passes it on when it comes")
    func movesOn() {
        var (core, number, _) = self.claimer()
        _ = core.onKnown("c", epoch: 7, now: self.now)
        _ = core.onLinkUp("c", now: self.now)
        let key = ClaimKey(claimer: "c", number: 8)
        let actions = self.give(&core, key, earlier: number)
        let offer = TakeoverMessage.subscriptions(
            claim: 8,
            epoch: 3,
            isLast: true,
            stragglers: [self.x],
            ByteBuffer()
        )
        #expect(actions.first == .send(offer, to: "c"))
        // Its mark for the second move must not come before that for the first one.
        let ready = TakeoverCore.Action.send(.ready(claim: 8, straggler: self.x), to: "c")
        #expect(!core.onLinkUp("x", now: self.now).contains(ready))
        _ = core.onMessage(self.rest(number), from: "a", now: self.now)
        let mark = TakeoverMessage.mark(ClaimKey(claimer: "b", number: number), giver: "a")
        #expect(core.onMessage(mark, from: "x", now: self.now).contains(ready))
    }

    @Test("A claimer asks no node for a mark that the giver does not want yet")
    func leavesUnsettled() {
        var core = self.core("b", knowing: ["a", "x"])
        _ = core.onLinkUp("x", now: self.now)
        let (number, _) = core.onConnect(clientID: "s", userName: nil, discards: false, epoch: 9, now: self.now)
        _ = core.onMessage(.answer(claim: number, .none, epoch: 0), from: "x", now: self.now)
        let subscriptions = TakeoverMessage.subscriptions(
            claim: number,
            epoch: 3,
            isLast: true,
            stragglers: [self.x],
            ByteBuffer()
        )
        _ = core.onMessage(subscriptions, from: "a", now: self.now)
        let cut = TakeoverMessage.cut(claim: number, giver: "a", tableSequence: 4)
        let key = ClaimKey(claimer: "b", number: number)
        #expect(
            core.onInstalled(number, giver: "a", tableSequence: 4, now: self.now) == [
                .send(cut, to: "a"), .quiesce(key, giver: "a", tableSequence: 0),
            ]
        )
    }

    @Test("A node that was out of sight gets the session only when all is there that it had for it itself")
    func stragglerClaims() {
        var (core, number, _) = self.claimer()
        _ = core.onLinkUp("x", now: self.now)
        let claim = TakeoverMessage.Claim(number: 1, epoch: 99, discards: false, clientID: "s", userName: nil)
        #expect(core.onMessage(.claim(claim), from: "x", now: self.now) == [.observe(epoch: 99)])
        let actions = core.onMessage(self.rest(number, isMarked: false), from: "a", now: self.now)
        #expect(actions.last == .fence(ClaimKey(claimer: "x", number: 1), claim))

        (core, number, _) = self.claimer()
        _ = core.onLinkUp("x", now: self.now)
        _ = core.onMessage(.claim(claim), from: "x", now: self.now)
        _ = core.onPeerGone("x", now: self.now)
        #expect(
            core.onMessage(self.rest(number, isMarked: false), from: "a", now: self.now).last
                == .endMove(number, giver: "a")
        )
    }

    @Test("Its messages wait for no giver that is gone, nor once for each session of one that does not answer")
    func waitsOnce() throws {
        var (core, number, _) = self.claimer()
        _ = core.onPeerGone("a", now: self.now)
        let mark = TakeoverMessage.mark(ClaimKey(claimer: "b", number: number), giver: "a")
        #expect(core.onMessage(mark, from: "x", now: self.now) == [.takeFrom(number, node: "x")])

        (core, number, _) = self.claimer()
        let second = self.claim(&core, of: "t").number
        _ = core.onLinkUp("x", now: self.now)
        #expect(core.onMessage(mark, from: "x", now: self.now) == [.hold("x")])
        let deadline = try #require(core.nextDeadline)
        #expect(
            core.onTime(deadline) == [
                .takeFrom(number, node: "x"), .release("x"), .takeFrom(second, node: "x"),
            ]
        )
    }

    @Test("A client that moves all the time leaves something at some places only")
    func leavesBounded() {
        var core = self.core("a", knowing: ["b", "x"])
        var kept = 0
        for number in 1...20 as ClosedRange<UInt64> {
            let key = ClaimKey(claimer: "b", number: number)
            let actions = self.give(&core, key, earlier: nil)
            if actions.contains(.leave(key, keepsRoutes: true)) {
                kept += 1
            } else {
                #expect(actions.contains(.leave(key, keepsRoutes: false)))
                let nothing = TakeoverMessage.rest(
                    claim: number,
                    straggler: self.x,
                    isMarked: false,
                    isLast: true,
                    ByteBuffer()
                )
                #expect(actions.contains(.send(nothing, to: "b")))
            }
        }
        #expect(kept == 16 && core.stragglingCount == 16)
        _ = core.onLost("b", now: self.now)
        #expect(core.stragglingCount == 0)
        #expect(
            self.give(&core, ClaimKey(claimer: "b", number: 21), earlier: nil).contains {
                $0 == .leave(ClaimKey(claimer: "b", number: 21), keepsRoutes: true)
            }
        )
    }

    @Test("Whose mark has come is known under its next place in the broker too")
    func marksAgain() {
        var core = self.core("a", knowing: ["b", "x"])
        let key = ClaimKey(claimer: "b", number: 5)
        let claim = TakeoverMessage.Claim(number: 5, epoch: 9, discards: false, clientID: "s", userName: nil)
        _ = core.onMessage(.claim(claim), from: "b", now: self.now)
        _ = core.onFenced(key, .held(epoch: 3, subscriptions: ByteBuffer()), now: self.now)
        _ = core.onMessage(.mark(key, giver: "a"), from: "x", now: self.now)
        _ = core.onPeerGone("x", now: self.now)
        #expect(core.onKnown("x", epoch: 7, now: self.now) == [.markDeparting(key, origin: "x")])
    }
}

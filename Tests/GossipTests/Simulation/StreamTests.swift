import NIOCore
import Testing

@testable import Gossip

/// What the simulated TCP does, so that rings are told what sockets would tell them: every packet takes 10 ms here, and
/// the second of two nodes that do not know each other opens a stream to the first at once.
@Suite("Simulated streams", .ownThread)
struct StreamTests {
    private let simulation = Simulation(seed: 1)
    private let acceptor: Simulation.Node
    private let opener: Simulation.Node

    init() {
        self.init(acceptorProfile: .lan)
    }

    private init(acceptorProfile: GossipProfile) {
        self.simulation.weather.delayMilliseconds = 10...10
        self.acceptor = self.simulation.add("n1", at: 1, profile: acceptorProfile)
        self.opener = self.simulation.add("n2", at: 2)
        self.simulation.drive(self.opener) { [acceptor] instance, now in
            instance.now = now
            let question = Message.pushPull(PushPull(isJoin: false)).encoded()
            instance.open(.antiEntropy, to: acceptor.address, question)
            return instance.finish()
        }
    }

    /// Runs until so long after the start.
    private func run(to milliseconds: Int64) {
        let end = NIODeadline.uptimeNanoseconds(1_000_000_000) + .milliseconds(milliseconds)
        self.simulation.run(atMost: end - self.simulation.now)
    }

    private func cut(_ isCut: Bool = true) {
        self.simulation.cut = { one, other in isCut && one != other }
    }

    private var taken: Int { self.acceptor.instance.statistics.exchanges }
    private var answered: Int { self.opener.instance.statistics.exchanges }
    private var failed: Int { self.opener.instance.statistics.exchangesFailed }

    @Test("A stream takes two packets to open, one each for message and answer")
    func undisturbed() {
        self.run(to: 29)
        #expect(self.taken == 0)
        self.run(to: 30)
        #expect(self.taken == 1 && self.answered == 0)
        self.run(to: 40)
        #expect(self.answered == 1 && self.failed == 0)
    }

    @Test(
        "An opening that is lost is sent again after 1, 3 and 7 s, until the opener gives up",
        arguments: [2_000, 4_000]
    )
    func lostOpening(healed: Int64) {
        self.cut()
        self.run(to: healed)
        self.cut(false)
        self.run(to: 4_999)
        let isInTime = healed < 3_000
        #expect(self.answered == (isInTime ? 1 : 0) && self.failed == 0)
        self.run(to: 5_000)
        #expect(self.failed == (isInTime ? 0 : 1))
        self.run(to: 7_200)
        #expect(self.taken == (isInTime ? 1 : 0), "nothing of it comes after that")
    }

    @Test("A message that is lost is sent again, until the other side gives up", arguments: [2_000, 4_000])
    func lostMessage(healed: Int64) {
        self.run(to: 15)
        self.cut()
        self.run(to: healed)
        self.cut(false)
        self.run(to: 4_999)
        let isInTime = healed < 3_020
        #expect(self.answered == (isInTime ? 1 : 0) && self.failed == 0)
        self.run(to: 5_000)
        #expect(self.failed == (isInTime ? 0 : 1))
        self.run(to: 7_000)
        #expect(self.taken == (isInTime ? 1 : 0), "nothing of it comes after that")
    }

    @Test(
        "An answer that is lost is sent again, and not taken once the opener has given up",
        arguments: [2_000, 4_000]
    )
    func lostAnswer(healed: Int64) {
        self.run(to: 25)
        self.cut()
        self.run(to: healed)
        #expect(self.taken == 1)
        self.cut(false)
        self.run(to: 7_000)
        #expect(self.answered == (healed < 3_030 ? 1 : 0) && self.failed == 1 - self.answered)
    }

    @Test("A side that waits for less time ends the connection for both")
    func impatient() {
        let test = StreamTests(acceptorProfile: .local)
        test.run(to: 15)
        let address = test.opener.address
        test.simulation.cut = { one, _ in one == address }
        test.run(to: 1_039)
        #expect(test.failed == 0)
        test.run(to: 1_040)
        #expect(test.failed == 1)
        test.cut(false)
        test.run(to: 4_000)
        #expect(test.taken == 0)
    }

    @Test("A process that is back at once knows nothing of the connections before it")
    func reborn() {
        self.run(to: 15)
        self.cut()
        self.simulation.crash(self.acceptor, hostStays: true)
        let second = self.simulation.add("n1", at: 1, epoch: 2)
        self.run(to: 100)
        self.cut(false)
        self.run(to: 239)
        #expect(self.failed == 0)
        self.run(to: 240)
        #expect(self.failed == 1 && self.taken == 0 && second.instance.statistics.exchanges == 0)
    }

    @Test("A host that is gone sends nothing again")
    func vanished() {
        self.run(to: 15)
        self.cut()
        self.run(to: 100)
        self.simulation.crash(self.opener)
        self.cut(false)
        self.run(to: 6_000)
        #expect(self.taken == 0)
    }

    @Test("A node that is held up sends its message when it goes on")
    func heldUp() {
        self.run(to: 5)
        self.simulation.pause(self.opener, for: .milliseconds(1_000))
        self.run(to: 1_014)
        #expect(self.taken == 0)
        self.run(to: 1_015)
        #expect(self.taken == 1)
    }
}

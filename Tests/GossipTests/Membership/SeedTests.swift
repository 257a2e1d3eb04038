import NIOCore
import Testing

@testable import Gossip

/// A seed by name, as the name service answers for it from one attempt to the next.
@Suite("Seeds by name")
struct SeedTests {
    private static let start = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

    private static func instance() -> Instance {
        Instance(
            .init(
                name: "me",
                address: NodeAddress(literal: "10.0.0.1", port: 7_946)!,
                bootEpoch: 1,
                incarnation: 100,
                seedCount: 1,
                randomSeed: 1
            ),
            now: Self.start
        )
    }

    private static func addresses(_ hosts: String...) -> Result<[NodeAddress], StreamFailure> {
        .success(hosts.map { NodeAddress(literal: $0, port: 7_946)! })
    }

    private static func opened(_ directives: [Directive]) -> [(id: StreamID, host: String)] {
        directives.compactMap { if case .open(let id, let target, _, _) = $0 { (id, target.host) } else { nil } }
    }

    /// Runs the timer until the seed is looked up again.
    private static func nextLookUp(_ instance: inout Instance) -> NIODeadline? {
        for _ in 0..<1_000 {
            let now = instance.nextDeadline
            if instance.onTimer(now: now).contains(.resolve(seed: 0)) { return now }
        }
        return nil
    }

    @Test("All its addresses of both families are tried, except this node's own and public ones")
    func allAddresses() {
        var instance = Self.instance()
        #expect(instance.start(now: Self.start) == [.resolve(seed: 0)])
        let found = Self.addresses("10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::4", "203.0.113.9")
        let directives = instance.onResolved(seed: 0, found, now: Self.start)
        #expect(Self.opened(directives).map(\.host) == ["10.0.0.2", "10.0.0.3", "fd00::4"])
    }

    @Test("Of a name with very many addresses not all are tried at a time")
    func manyAddresses() {
        var instance = Self.instance()
        _ = instance.start(now: Self.start)
        let all = (0..<1_000).map { NodeAddress(literal: "10.1.\($0 / 250).\($0 % 250)", port: 7_946)! }
        #expect(Self.opened(instance.onResolved(seed: 0, .success(all), now: Self.start)).count == 64)
    }

    @Test("It is looked up anew for every attempt, and what it stands for by then is tried")
    func anew() throws {
        var instance = Self.instance()
        _ = instance.start(now: Self.start)
        var now = Self.start
        for host in ["10.0.0.2", "10.0.0.3", "fd00::4"] {
            let opened = Self.opened(instance.onResolved(seed: 0, Self.addresses(host), now: now))
            #expect(opened.map(\.host) == [host])
            for stream in opened { _ = instance.onStream(stream.id, .failure(.unreachable("gone")), now: now) }
            now = try #require(Self.nextLookUp(&instance))
            #expect(now - Self.start < .seconds(60))
        }
    }

    @Test("A name that is not known yet is looked up until it is")
    func unknown() throws {
        var instance = Self.instance()
        _ = instance.start(now: Self.start)
        for attempt in 1...20 {
            _ = instance.onResolved(seed: 0, .failure(.unreachable("unknown name")), now: instance.now)
            let asked = instance.now
            let again = try #require(Self.nextLookUp(&instance), "attempt \(attempt)")
            #expect(again - asked < .seconds(15), "attempt \(attempt)")
        }
    }
}

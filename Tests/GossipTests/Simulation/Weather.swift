import NIOCore

@testable import Gossip

/// What the network does to all that is sent.
struct Weather {
    /// The share of datagrams that are lost; segments of streams are lost as often, and sent again.
    var loss = 0.0
    /// The share of datagrams that arrive twice.
    var duplicates = 0.0
    var delayMilliseconds = 0.2...2.0
    /// The share of packets that are held up for much longer, by Pareto's law with an exponent of 1.2, and so are
    /// overtaken by those sent after them.
    var tail = 0.0
    var tailMilliseconds = 20.0...3_000.0

    func delay(using generator: inout SeededGenerator) -> TimeAmount {
        var milliseconds = Double.random(in: self.delayMilliseconds, using: &generator)
        if self.tail > 0, Double.random(in: 0..<1, using: &generator) < self.tail {
            let share = Double.random(in: Double.leastNonzeroMagnitude...1, using: &generator)
            milliseconds += min(self.tailMilliseconds.lowerBound / share, self.tailMilliseconds.upperBound)
        }
        return .nanoseconds(Int64(milliseconds * 1_000_000))
    }

    func isLost(using generator: inout SeededGenerator) -> Bool {
        self.loss > 0 && Double.random(in: 0..<1, using: &generator) < self.loss
    }

    func copies(using generator: inout SeededGenerator) -> Int {
        var copies = self.isLost(using: &generator) ? 0 : 1
        if self.duplicates > 0, Double.random(in: 0..<1, using: &generator) < self.duplicates { copies += 1 }
        return copies
    }
}

/// A stream that a node opened.
struct SimulatedStream {
    let id: StreamID
    let opener: Simulation.Node
    let target: NodeAddress
    let message: Message
    /// When the opener gives up.
    let end: NIODeadline
}

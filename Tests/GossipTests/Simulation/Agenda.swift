import NIOCore

@testable import Gossip

/// What is to happen, by time and then in the order in which it was planned: a binary heap.
struct Agenda {
    enum Input {
        case packet([UInt8], from: NodeAddress, to: NodeAddress)
        case connected(SimulatedStream, Simulation.Node)
        case stream(SimulatedStream, Simulation.Node)
        case outcome(Simulation.Node, StreamID, Result<Message, StreamFailure>)
        case resolved(Simulation.Node, seed: Int, Result<[NodeAddress], StreamFailure>)
        case timer(Simulation.Node)
        case resume(Simulation.Node)
        case action(() -> Void)
    }

    /// The heap moves these, not what is planned.
    private struct Entry {
        let time: UInt64
        let number: UInt64
        let slot: Int

        func precedes(_ other: Entry) -> Bool {
            self.time < other.time || self.time == other.time && self.number < other.number
        }
    }

    private var heap: [Entry] = []
    private var inputs: [Input?] = []
    private var freeSlots: [Int] = []
    private var lastNumber: UInt64 = 0

    var nextTime: NIODeadline? { self.heap.first.map { .uptimeNanoseconds($0.time) } }

    mutating func add(_ time: NIODeadline, _ input: Input) {
        self.lastNumber += 1
        let slot: Int
        if let free = self.freeSlots.popLast() {
            slot = free
            self.inputs[slot] = input
        } else {
            slot = self.inputs.count
            self.inputs.append(input)
        }
        let entry = Entry(time: time.uptimeNanoseconds, number: self.lastNumber, slot: slot)
        self.heap.append(entry)
        var child = self.heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard entry.precedes(self.heap[parent]) else { break }
            self.heap[child] = self.heap[parent]
            child = parent
        }
        self.heap[child] = entry
    }

    mutating func removeFirst() -> Input? {
        guard let first = self.heap.first, let last = self.heap.popLast() else { return nil }
        defer {
            self.inputs[first.slot] = nil
            self.freeSlots.append(first.slot)
        }
        if !self.heap.isEmpty {
            var parent = 0
            while true {
                var least = 2 * parent + 1
                guard least < self.heap.count else { break }
                if least + 1 < self.heap.count, self.heap[least + 1].precedes(self.heap[least]) { least += 1 }
                guard self.heap[least].precedes(last) else { break }
                self.heap[parent] = self.heap[least]
                parent = least
            }
            self.heap[parent] = last
        }
        return self.inputs[first.slot]
    }
}

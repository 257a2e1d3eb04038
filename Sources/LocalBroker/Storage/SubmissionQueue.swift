/// Ties what several shards hand in: either all parts are stored or none.
struct StorageGroup: Sendable, Hashable {
    var number: UInt64
    /// Shards that hand in a part.
    var parts: Int
}

/// What a shard hands in at the end of a tick.
struct StorageSubmission: Sendable {
    var entries: [JournalEntry]
    var tickets: [StorageWriter.Ticket] = []
    /// What is to be read when all that was handed in before is written.
    var reads: [TailRead] = []
    /// What it is a part of.
    var groups: [StorageGroup] = []
}

/// Submissions in the order in which each shard handed them in, until all parts of their groups are there. A value without
/// IO.
///
/// A QoS 2 message and the note that it was taken must be stored in one step, or a crash in between would lose or double
/// it; and a message may be received on other shards than it came by. Parts of several groups may cross each other, so what
/// is released is the longest beginning of every shard's queue that tears no group apart.
struct SubmissionQueue: Sendable {
    private var queues: [[StorageSubmission]]

    init(shards: Int) {
        self.queues = Array(repeating: [], count: shards)
    }

    /// Adds a submission and returns all that may be stored now, in order.
    mutating func add(_ submission: StorageSubmission, from shard: Int) -> [StorageSubmission] {
        if submission.groups.isEmpty, self.queues[shard].isEmpty { return [submission] }
        self.queues[shard].append(submission)
        return self.release()
    }

    private mutating func release() -> [StorageSubmission] {
        var ends = self.queues.map(\.count)
        while true {
            var missing: [StorageGroup: Int] = [:]
            for (queue, end) in zip(self.queues, ends) {
                for group in queue[..<end].lazy.flatMap(\.groups) { missing[group, default: group.parts] -= 1 }
            }
            let before = ends
            for shard in self.queues.indices {
                let torn = self.queues[shard][..<ends[shard]].firstIndex { submission in
                    submission.groups.contains { missing[$0] != 0 }
                }
                ends[shard] = torn ?? ends[shard]
            }
            if ends == before { break }
        }
        var released: [StorageSubmission] = []
        for shard in self.queues.indices where ends[shard] > 0 {
            released += self.queues[shard][..<ends[shard]]
            self.queues[shard].removeFirst(ends[shard])
        }
        return released
    }
}

import Testing

@testable import LocalBroker

/// What shards hand in together is stored together.
@Suite struct SubmissionQueueTests {
    private func submission(_ number: UInt64, _ groups: StorageGroup...) -> StorageSubmission {
        StorageSubmission(
            entries: [],
            tickets: [StorageWriter.Ticket(shard: 0, number: number)],
            groups: groups
        )
    }

    private func group(_ number: UInt64, _ parts: Int = 2) -> StorageGroup {
        StorageGroup(number: number, parts: parts)
    }

    private func numbers(_ submissions: [StorageSubmission]) -> [UInt64] {
        submissions.flatMap(\.tickets).map(\.number)
    }

    @Test func whatIsInNoGroupDoesNotWait() {
        var queue = SubmissionQueue(shards: 2)
        #expect(self.numbers(queue.add(self.submission(1), from: 0)) == [1])
    }

    @Test func aGroupIsReleasedWithItsLastPart() {
        var queue = SubmissionQueue(shards: 3)
        let group = self.group(1, 3)
        #expect(queue.add(self.submission(1, group), from: 0).isEmpty)
        #expect(queue.add(self.submission(2, group), from: 1).isEmpty)
        #expect(self.numbers(queue.add(self.submission(3, group), from: 2)) == [1, 2, 3])
    }

    @Test func aShardsSubmissionsKeepTheirOrder() {
        var queue = SubmissionQueue(shards: 2)
        #expect(queue.add(self.submission(1, self.group(1)), from: 0).isEmpty)
        #expect(queue.add(self.submission(2), from: 0).isEmpty)
        #expect(self.numbers(queue.add(self.submission(3), from: 1)) == [3])
        #expect(self.numbers(queue.add(self.submission(4, self.group(1)), from: 1)) == [1, 2, 4])
        #expect(self.numbers(queue.add(self.submission(5), from: 0)) == [5])
    }

    @Test func groupsThatCrossEachOtherDoNotWaitForEver() {
        var queue = SubmissionQueue(shards: 2)
        #expect(queue.add(self.submission(1, self.group(1)), from: 0).isEmpty)
        #expect(queue.add(self.submission(2, self.group(2)), from: 1).isEmpty)
        #expect(queue.add(self.submission(3, self.group(2)), from: 0).isEmpty)
        #expect(self.numbers(queue.add(self.submission(4, self.group(1)), from: 1)) == [1, 3, 2, 4])
    }

    @Test func aCompleteGroupWaitsForTheIncompleteOneBeforeIt() {
        var queue = SubmissionQueue(shards: 3)
        #expect(queue.add(self.submission(1, self.group(1)), from: 0).isEmpty)
        #expect(queue.add(self.submission(2, self.group(2)), from: 0).isEmpty)
        #expect(queue.add(self.submission(3, self.group(2)), from: 1).isEmpty)
        #expect(self.numbers(queue.add(self.submission(4, self.group(1)), from: 2)) == [1, 2, 3, 4])
    }

    @Test func oneSubmissionMayBeAPartOfSeveralGroups() {
        var queue = SubmissionQueue(shards: 3)
        #expect(queue.add(self.submission(1, self.group(1), self.group(2)), from: 0).isEmpty)
        #expect(queue.add(self.submission(2, self.group(1)), from: 1).isEmpty)
        #expect(self.numbers(queue.add(self.submission(3, self.group(2)), from: 2)) == [1, 2, 3])
    }
}

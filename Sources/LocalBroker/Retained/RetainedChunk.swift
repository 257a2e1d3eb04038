/// Where an iteration in topic order goes on. Names a topic, not a place, so changes in between do no harm.
package struct RetainedCursor: Sendable, Equatable {
    /// The first key that has not been looked at.
    var key: [UInt8]

    package static let start = RetainedCursor(key: [])
}

/// Where an iteration through a digest bucket goes on.
package struct RetainedBucketCursor: Sendable, Equatable {
    var topicHash: UInt64
    var topic: [UInt8]

    package static let start = RetainedBucketCursor(topicHash: 0, topic: [])
}

/// A bounded part of an iteration.
///
/// A topic that is in the store during the whole iteration is delivered exactly once, with the value it has when its
/// chunk is made. One that comes or goes meanwhile is delivered once or not at all.
package struct RetainedChunk<Cursor: Sendable>: Sendable {
    package var entries: [RetainedEntry]
    /// `nil` at the end. A chunk may be empty and not be the last: the work for one is bounded as well.
    package var next: Cursor?
}

/// The order of topics in the retained store: by bytes, with `/` before all others.
///
/// So a topic comes right before its subtree, a subtree is one contiguous range, and the children of a node are ordered
/// by their level alone.
enum TopicOrder {
    /// Appended to the topic of a node: comes after everything below the node and before its next sibling.
    static let afterSubtree: UInt8 = 0

    /// Whether `left` comes before `right`.
    static func precedes(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        let count = min(left.count, right.count)
        var offset = 0
        while offset + 8 <= count {
            let difference =
                left.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
                ^ right.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            if difference != 0 {
                break
            }
            offset += 8
        }
        while offset < count {
            if left[offset] != right[offset] {
                return Self.rank(left[offset]) < Self.rank(right[offset])
            }
            offset += 1
        }
        return left.count < right.count
    }

    @inline(__always)
    private static func rank(_ byte: UInt8) -> UInt8 {
        if byte == 0x2f {
            return 0
        }
        return byte < 0x2f ? byte + 1 : byte
    }
}

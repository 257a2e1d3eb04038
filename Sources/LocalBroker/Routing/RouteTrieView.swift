#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// A copy of the table as plain pointers: what the walk needs and nothing that is reference-counted.
///
/// Valid while the copy is not changed.
struct RouteTrieView {
    let seed: UInt64
    let nodes: UnsafeMutablePointer<RouteNode>
    let slots: UnsafeMutablePointer<UInt64>
    let shift: UInt32
    let mask: Int
    let pool: UnsafeMutableRawPointer
    let groups: UnsafeMutablePointer<ShareGroup>

    @inline(__always)
    func routes(of run: RouteRun) -> UnsafeBufferPointer<Route> {
        let start = (self.pool + Int(run.offset) &* UnitPool.unitBytes).assumingMemoryBound(to: Route.self)
        return UnsafeBufferPointer(start: start, count: run.count)
    }

    /// The literal child for the segment, 0 if there is none.
    @inline(__always)
    func child(of parent: UInt32, segment: borrowing TopicSegment, topic: UnsafeRawPointer) -> UInt32 {
        let single = self.nodes[Int(parent)].literals.single
        if single != 0 {
            return self.isChild(single, of: parent, segment: segment, topic: topic) ? single : 0
        }
        let tag = EdgeTable.tag(parent: parent, hash: segment.hash(seed: self.seed))
        var index = Int(tag &>> self.shift)
        while true {
            let slot = self.slots[index]
            if slot == 0 {
                return 0
            }
            if UInt32(truncatingIfNeeded: slot &>> 32) == tag {
                let child = UInt32(truncatingIfNeeded: slot)
                if self.isChild(child, of: parent, segment: segment, topic: topic) {
                    return child
                }
            }
            index = (index &+ 1) & self.mask
        }
    }

    /// The tag may lie; parent and bytes do not.
    @inline(__always)
    private func isChild(
        _ child: UInt32,
        of parent: UInt32,
        segment: borrowing TopicSegment,
        topic: UnsafeRawPointer
    ) -> Bool {
        let node = self.nodes + Int(child)
        guard
            node.pointee.parent == parent, Int(node.pointee.segmentLength) == segment.count,
            node.pointee.word0 == segment.word0
        else {
            return false
        }
        if segment.count <= TopicSegment.inlineBytesMax {
            return node.pointee.word1 == segment.word1
        }
        let bytes = self.pool + Int(node.pointee.word1) &* UnitPool.unitBytes
        return memcmp(bytes, topic + segment.start, segment.count) == 0
    }
}

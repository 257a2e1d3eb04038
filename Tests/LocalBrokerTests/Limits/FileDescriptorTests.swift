import Testing

@testable import LocalBroker

@Suite("How many files may be open")
struct FileDescriptorTests {
    @Test("the limit can be raised, and connections are limited by it, with some left for others")
    func raise() {
        let before = FileDescriptors.limit ?? .max
        FileDescriptors.raiseLimit()
        let limit = FileDescriptors.limit ?? .max
        #expect(limit >= before)
        let connections = Admission(.test()).connectionsMax
        #expect(connections > 0 && (connections < limit || limit == .max))
    }
}

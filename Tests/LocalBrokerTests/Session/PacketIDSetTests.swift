import Testing

@testable import LocalBroker

@Suite("A set of packet identifiers")
struct PacketIDSetTests {
    @Test("holds exactly what was put in, over the whole range")
    func members() {
        var set = PacketIDSet()
        #expect(!set.contains(1))
        #expect(set.remove(1) == false)
        for id in [1, 63, 64, 4095, 4096, 65_535] as [UInt16] {
            #expect(set.insert(id) == true)
            #expect(set.insert(id) == false)
            #expect(set.contains(id))
        }
        #expect(set.count == 6)
        #expect(set.remove(4096) == true)
        #expect(!set.contains(4096))
        #expect(set.contains(4095))
        #expect(set.count == 5)
    }
}
